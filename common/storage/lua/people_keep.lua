-- people_keep: keeps what SQL said of people, but for those who changed since SQL was asked, and while there is room.
-- KEYS     three counters of bytes: this half hour's, the two before; then a value and a generation by person
-- ARGV     server's ms when the generations were read, most ms since then, seconds to keep, most bytes, bytes of a key;
--          then by person the generation that was read ('' none) and the value
-- returns  how many were kept
-- why      a generation that begins with '-' belongs to a writer whose transaction has not ended; a reader that stood still for longer
--          than a generation lives must not bring back what was true before
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
if since < 0 or since > tonumber(ARGV[2]) then
  return 0
end
local bytes, added, kept = 0, 0, 0
local names = {KEYS[1], KEYS[2], KEYS[3]}
for place = 5, #KEYS, 2 do names[#names + 1] = KEYS[place] end
local known = redis.call('MGET', unpack(names)) -- a call costs more than what it does
for i = 1, 3 do bytes = bytes + tonumber(known[i] or '0') end
for at = 6, #ARGV, 2 do
  local place = at - 2 -- of the person's first key
  local generation, size = known[place / 2 + 2] or '', #ARGV[at + 1] + #KEYS[place] + tonumber(ARGV[5])
  if generation == ARGV[at] and string.sub(generation, 1, 1) ~= '-' and bytes + added + size <= tonumber(ARGV[4]) then
    redis.call('SET', KEYS[place], ARGV[at + 1], 'EX', ARGV[3])
    added, kept = added + size, kept + 1
  end
end
if added > 0 then
  redis.call('INCRBY', KEYS[1], added)
  redis.call('EXPIRE', KEYS[1], 3 * 1800)
end
return kept
