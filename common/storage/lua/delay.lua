-- delay: puts entries into a sorted set by their time, due by this server's clock.
-- KEYS[1] push:delayed or push:replies-due
-- KEYS[2] push:timer   list: wakes the timer, which sleeps until what it knows is due
-- ARGV    per entry: its delay in ms, its member
-- returns nothing
-- why     who puts and who releases are two machines, and a minute between their clocks would be a minute more or less to wait
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
for index = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], now_ms + ARGV[index], ARGV[index + 1])
end
if redis.call('ZRANGE', KEYS[1], 0, 0)[1] ~= before and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[2], '1')
  redis.call('PEXPIRE', KEYS[2], 2000)
end
