-- advance: after the clock was set back, what is due by it comes as much earlier.
-- KEYS[1] zset: member -> when it is due, ms
-- ARGV    1 ms that the clock was set back, 2 most ms from now that is ever set, 0: any, 3 most members
-- returns how many
-- why     a delay that nobody meant: an hour of it for an hour that the clock was set back. Where there is a bound nothing that was set by
--         the clock of now is touched
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[2])
local late = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%d', now + most), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #late, 2 do
  local due = most > 0 and now + most or tonumber(late[i + 1]) - tonumber(ARGV[1])
  redis.call('ZADD', KEYS[1], string.format('%d', due), late[i])
end
return #late / 2
