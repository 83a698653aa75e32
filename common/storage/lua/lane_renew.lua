-- lane_renew: the sender of these entries is alive.
-- KEYS[1] push:{<lane>}:leases, [2] :holders, see lane_take.lua
-- ARGV    1 sender's word, 2 ms of a lease, then the entries
-- returns those that are this sender's no more
-- why     asking who holds an entry and renewing it in two calls could renew what another took in between
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2])
local lost = {}
for i = 3, #ARGV do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[1] then
    redis.call('ZADD', KEYS[1], 'XX', till, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
