-- take_numbers: whether the pushes of some leased entries may go, and the badge number of each.
-- KEYS[1] push:{<lane>}:holders  hash: entry -> its sender's word
-- KEYS    then per entry push:{s0}:taken:<entry>  string: MessagePack, place + 1 -> count of its push: what its last sender has taken
-- KEYS    then push:read:{app:user} and push:badge:{app:user}, see claim.lua; a badge's field :x is the day on which it was last prolonged;
--         and per bucket four hashes of counts, see counts.lua
-- KEYS    then push:gone:<app>:<conversation>\0<message>, see claim.lua
-- ARGV    1 word of the sender ("": nobody holds these), 2 "1": note what is taken with the entry, 3 seconds that is kept, 4 seconds a badge
--         is kept, 5 how many of the last KEYS are marks, 6 number of the first key of a person, 7 MessagePack, flat: per entry its
--         name, how many pushes, and per push: place, number of its mark, of its read key, conversation, message, ts, of its badge key,
--         device, step (-1: badge not touched), count it has taken earlier, of the first of its hashes of counts; keys of persons are numbered from 0
-- returns MessagePack, flat: per push state, badge, why as in claim.lua, count as "<step>@<epoch>"
--         a count "<step>@?" is an earlier release's whose sender died before it noted since when it counts: since the last time
-- why     each number is taken in one step with the note of it, so that whoever takes the entry over from a dead sender neither counts
--         again nor forgets that it may be on the screen; a sender that stood still takes nothing of what is another's
local call, match = redis.call, string.match
local word, sends, keep_badge, first = ARGV[1], ARGV[2] == '1', ARGV[4], tonumber(ARGV[6])
local asked, day = cmsgpack.unpack(ARGV[7]), math.floor(tonumber(call('TIME')[1]) / 86400)
local PROLONG_DAYS = 30
call('HDEL', KEYS[1], '') -- a delete first: a server without free memory refuses a script that begins by adding
local names, records, at = {}, {}, 1
while asked[at] do
  names[#names + 1] = asked[at]
  records[#records + 1] = KEYS[1 + #names]
  at = at + 2 + 11 * asked[at + 1]
end
local holders = word ~= '' and call('HMGET', KEYS[1], unpack(names)) or {}
local before = call('MGET', unpack(records))
local marks = tonumber(ARGV[5])
local withdrawn = marks > 0 and call('MGET', unpack(KEYS, #KEYS - marks + 1)) or {}

-- why nothing of this push's message may go, or its person need not see it any more; nil
local function stopped(mark, key, conversation, message, ts)
  if mark then
    local why, upto = match(mark, '^([^|]*)|?(%d*)$')
    if not upto or upto == '' or upto == '0' or ts <= tonumber(upto) then return why end
  end
  if conversation == 'call' then
    local ended = call('HGET', key, 'c:' .. message)
    return ended and ts <= tonumber(ended) and 'call_ended' or nil
  end
  local read = call('HMGET', key, conversation, 'm:' .. conversation .. '\0' .. message)
  if read[2] or (read[1] and ts <= tonumber(read[1])) then return 'read_elsewhere' end
end

-- the number of this moment, and the push's count; counted: its count of an earlier try
local function number(key, device, step, counted, hashes)
  local told = call('HMGET', key, device .. ':b', ':b', device .. ':t', ':t', ':x', device .. ':n')
  local epoch, since = told[3] or told[4], tonumber(told[6] or '0')
  local count = step .. '@' .. (epoch or '0')
  local more = count ~= counted and counted ~= step .. '@?' and step > 0 and step or 0
  if epoch then
    if more > 0 then since = call('HINCRBY', key, device .. ':n', more) end
  else -- of a device of which no word is known
    local field = field_of(key, device)
    local known = count_of(hashes, field) + more
    if more > 0 then count_is(hashes, field, known) end
    since = since + known
  end
  if more > 0 and (told[1] or told[2] or epoch or told[5] or told[6]) and (not told[5] or day - tonumber(told[5]) >= PROLONG_DAYS) then
    call('HSET', key, ':x', day)
    call('EXPIRE', key, keep_badge)
  end
  return tonumber(told[1] or told[2] or '0') + since, count
end

local out, n = {}, 0
at = 1
for entry = 1, #names do
  local taken = before[entry] and cmsgpack.unpack(before[entry]) or {}
  local repeats = before[entry] and true or false
  local mine = word == '' or holders[entry] == word
  local last = at + 1 + 11 * asked[at + 1]
  for i = at + 2, last, 11 do
    local place, counted, why, state, badge = asked[i] + 1, asked[i + 9], '', 2, -1
    if mine then
      local earlier = repeats and taken[place]
      if earlier then counted, why = earlier ~= '' and earlier or counted, 'uncertain' end
      local stop = stopped(withdrawn[asked[i + 1]], KEYS[first + asked[i + 2]], asked[i + 3], asked[i + 4], asked[i + 5])
      if stop then
        state, why = 3, earlier and why or stop
      else
        state = 0
        if asked[i + 8] >= 0 then
          local h = first + asked[i + 10]
          local hashes = {KEYS[h], KEYS[h + 1], KEYS[h + 2], KEYS[h + 3]}
          badge, counted = number(KEYS[first + asked[i + 6]], asked[i + 7], asked[i + 8], counted, hashes)
        end
        taken[place] = counted
      end
    end
    out[n + 1], out[n + 2], out[n + 3], out[n + 4] = state, badge, why, counted
    n = n + 4
  end
  if mine and sends then call('SET', KEYS[1 + entry], cmsgpack.pack(taken), 'EX', ARGV[3]) end
  at = last + 1
end
return cmsgpack.pack(out)
