-- rebuild: the counts of a day are raised to what the ledger knows of it, and are trusted from the last call on.
-- KEYS[1] push:quota:<lane>:   prefix + day, see admit.lua
-- KEYS[2] push:cap:            prefix + day + ":" + 4 hex
-- KEYS[3] push:counted:<lane>  string: the buckets that are counted
-- ARGV    1 day, 2 buckets to be counted in the last call, else ""; then per count: key ("": the day's hash; else 4 hex of a device),
--         field, number
-- returns 1
-- why     never lowered: what is counted already may be on its way and not in the ledger yet
redis.call('DEL', KEYS[2]) -- no key but a prefix; a delete first: a server without free memory refuses a script that begins by adding
for i = 3, #ARGV, 3 do
  local key = ARGV[i] == '' and KEYS[1] .. ARGV[1] or KEYS[2] .. ARGV[1] .. ':' .. ARGV[i]
  if tonumber(redis.call('HGET', key, ARGV[i + 1]) or '0') < tonumber(ARGV[i + 2]) then redis.call('HSET', key, ARGV[i + 1], ARGV[i + 2]) end
  redis.call('EXPIRE', key, ARGV[i] == '' and 3 * 86400 or 2 * 86400)
end
if ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2]) end
return 1
