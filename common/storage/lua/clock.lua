-- clock: by how much this server's clock was set back since the last call, in ms; 0 for less than a second.
-- KEYS[1] push:{s0}:clock  string: the time of the last call, ms
-- ARGV    the latest time that the caller has seen, ms: it writes the time down less often than it sees it
-- returns ms
-- why     also a server that took over may have a clock of its own: what is due by the old one would wait until the new one is there
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]))
redis.pcall('SET', KEYS[1], string.format('%d', now)) -- a server without free memory refuses: then the next look tells
return last - now > 1000 and last - now or 0
