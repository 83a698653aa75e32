-- dedupe: which of these events are new?
-- KEYS    push:ev:<app>:<event id>  string: id of the stream entry that brought it first, 24 h
-- ARGV[1] seconds to remember; then per key the id of the entry that brings it now
-- returns per key 0: new, or our own reading again (a redelivery), 1: a repeat
-- why     test and set in one step; a redelivery of our own entry must not be taken for a repeat, or the message is lost
local out = {}
for i = 1, #KEYS do
  local entry = ARGV[1 + i]
  if redis.call('SET', KEYS[i], entry, 'NX', 'EX', ARGV[1]) then
    out[i] = 0
  elseif redis.call('GET', KEYS[i]) == entry then
    out[i] = 0
  else
    out[i] = 1
  end
end
return out
