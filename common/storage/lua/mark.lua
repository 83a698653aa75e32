-- mark: these pushes are done, whatever becomes of their entries.
-- KEYS[1..n]    push:claim:<day>:<4 hex>  hash: push id -> "D"
-- ARGV[1]       seconds a claim is kept; then the n push ids
-- returns nothing
-- why           one command for a batch of 500: an HSET each was a quarter of delivery's time; a bucket that no lease has made
--               (its only push was too old to be claimed) would otherwise be kept for ever
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[i + 1], 'D')
  if redis.call('TTL', key) < 0 then redis.call('EXPIRE', key, ARGV[1]) end
end
