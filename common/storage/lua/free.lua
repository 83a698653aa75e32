-- free: gives event ids back, so that their events can be published again.
-- KEYS    push:ev:<app>:<event id>  string: id of the stream entry that brought it first
-- ARGV    per key the id of the entry that gives it back
-- returns how many were given back
-- why     an id that another entry has taken since stays taken
local freed = 0
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then
    freed = freed + redis.call('DEL', KEYS[i])
  end
end
return freed
