-- delay: puts entries into the delayed set, due by this server's clock.
-- KEYS[1] push:delayed
-- ARGV    per entry: its delay in ms, its member
-- returns nothing
-- why     who puts and who releases are two machines, and a minute between their clocks would be a minute more or less to wait
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for index = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], now_ms + ARGV[index], ARGV[index + 1])
end
