-- admit: which of these pushes may go now? Rate (GCRA) of one lane, one call a batch.
-- KEYS[1] push:rate:<lane>  string: theoretical arrival time, seconds of the server's clock
-- ARGV    rate per s, burst; then per push its cost (requests or targets)
-- returns {granted from the front, wait_ms for the rest}
-- why     replicas that counted on their own would send rate x replicas
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local lim = burst / rate
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat > now + lim + 1e-6 then tat = now + lim end
local granted, wait = 0, 0
for i = 3, #ARGV do
  local new = math.max(tat, now) + tonumber(ARGV[i]) / rate
  if new - now > lim + 1e-6 then
    wait = math.max(1, math.ceil((new - now - lim) * 1000))
    break
  end
  tat = new
  granted = granted + 1
end
redis.call('SET', KEYS[1], string.format('%.6f', tat), 'PX', math.max(1000, math.ceil(math.max(tat - now, 0) * 1000) + 1000))
return {granted, wait}
