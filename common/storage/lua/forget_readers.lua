-- forget_readers: deletes consumers that hold nothing and were silent for long.
-- KEYS[1]  the stream
-- ARGV     group, idle ms
-- returns  how many were deleted
-- why      between a look and the deletion a reader could read: its entry would be nobody's
local gone = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then -- no such stream, no such group
  return gone
end
for _, consumer in ipairs(consumers) do
  local told = {}
  for i = 1, #consumer, 2 do
    told[consumer[i]] = consumer[i + 1]
  end
  if told.pending == 0 and told.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], told.name)
    gone = gone + 1
  end
end
return gone
