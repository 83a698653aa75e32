-- take_few: the badge numbers of a few usual pushes, while nothing has been said of them (row_numbers.py).
-- KEYS[1] push:{<lane>}:holders  hash: entry -> its sender's word
-- KEYS    then per entry push:{s0}:taken:<entry>, see take_numbers.lua; then what may stop a push or tell another token: marks of recalled
--         messages, what people have read, bindings; then per push push:badge:{app:user}
-- ARGV    1 word of the sender, 2 seconds that what is taken is noted, 3 seconds a badge is kept, 4 today in days, 5 how many entries, then
--         per entry: its name, how many pushes, badge step, and per push its device
-- returns per push badge, count as in let_go.lua; {} where something has to be looked at: then nothing was taken
-- why     for a few pushes plain commands are nearly twice as many, in three round trips
local call, word, today, out, n = redis.call, ARGV[1], tonumber(ARGV[4]), {}, 0
local PROLONG_DAYS = 30
local names, counts, steps, devices, at = {}, {}, {}, {}, 6
for e = 1, tonumber(ARGV[5]) do
  names[e], counts[e], steps[e] = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  for i = 1, counts[e] do devices[#devices + 1] = ARGV[at + 2 + i] end
  at = at + 3 + counts[e]
end
local first = #KEYS - #devices
if call('EXISTS', unpack(KEYS, 2, first)) > 0 then return {} end
local holders = call('HMGET', KEYS[1], unpack(names))
for e = 1, #names do
  if holders[e] ~= word then return {} end
end
for e = 1, #names do
  local noted = {}
  for i = 1, counts[e] do
    n = n + 1
    local key, device = KEYS[first + n], devices[n]
    local told = call('HMGET', key, device .. ':b', ':b', device .. ':t', ':t', ':x')
    local since = call('HINCRBY', key, device .. ':n', steps[e])
    if not told[5] or today - tonumber(told[5]) >= PROLONG_DAYS then
      call('HSET', key, ':x', ARGV[4])
      call('EXPIRE', key, ARGV[3])
    end
    noted[i] = steps[e] .. '@' .. (told[3] or told[4] or '0')
    out[2 * n - 1], out[2 * n] = since + tonumber(told[1] or told[2] or '0'), noted[i]
  end
  call('SET', KEYS[1 + e], cmsgpack.pack(noted), 'EX', ARGV[2])
end
return out
