-- free: gives event ids back, so that their events can be published again.
-- KEYS    push:{s0}:ev:<half day>  hash: event -> <entry mark><epoch seconds>
-- ARGV    per event: its field, the mark (8 bytes) of the entry that gives it back
-- returns how many were given back
-- why     an id that another entry has taken since stays taken
local freed = 0
for _, key in ipairs(KEYS) do
  for i = 1, #ARGV, 2 do
    local value = redis.call('HGET', key, ARGV[i])
    if value and string.sub(value, 1, 8) == ARGV[i + 1] then freed = freed + redis.call('HDEL', key, ARGV[i]) end
  end
end
return freed
