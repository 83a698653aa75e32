-- take_numbers: whether the pushes of some leased entries may go, and the badge number of each.
-- KEYS[1] push:{<lane>}:holders  hash: entry -> its sender's word
-- KEYS    then per entry push:{s0}:taken:<entry>  string: MessagePack, place + 1 -> count of its push: what its last sender has taken
-- KEYS    then push:read:{app:user} and push:badge:{app:user}, see claim.lua; a badge's field :x is the day on which it was last prolonged
-- KEYS    then push:gone:<app>:<conversation>\0<message>, see claim.lua
-- ARGV    1 word of the sender ("": nobody holds these), 2 "1": note what is taken with the entry, 3 seconds that is kept, 4 seconds a badge
--         is kept, 5 how many of the last KEYS are marks, 6 number of the first key of a person, 7 MessagePack: a list of {entry, pushes},
--         a push is {place, number of its mark, of its read key, conversation, message, ts, of its badge key, device, step (-1: badge
--         not touched), count it has taken earlier}; keys of persons are numbered from 0
-- returns MessagePack: per push {state, badge, why, count} as in claim.lua; count: see let_go.lua
-- why     each number is taken in one step with the note of it, so that whoever takes the entry over from a dead sender neither counts
--         again nor forgets that it may be on the screen; a sender that stood still takes nothing of what is another's
local call, match = redis.call, string.match
local word, sends, keep_badge, first = ARGV[1], ARGV[2] == '1', ARGV[4], tonumber(ARGV[6])
local asked, day = cmsgpack.unpack(ARGV[7]), math.floor(tonumber(call('TIME')[1]) / 86400)
local PROLONG_DAYS, CLOCKS_MS = 30, 2000 -- as in claim.lua
call('HDEL', KEYS[1], '') -- a delete first: a server without free memory refuses a script that begins by adding
local names, records = {}, {}
for n, one in ipairs(asked) do
  names[n] = one[1]
  records[n] = KEYS[1 + n]
end
local holders = word ~= '' and call('HMGET', KEYS[1], unpack(names)) or {}
local before = call('MGET', unpack(records))
local marks = tonumber(ARGV[5])
local withdrawn = marks > 0 and call('MGET', unpack(KEYS, #KEYS - marks + 1)) or {}

-- why nothing of this push's message may go, or its person need not see it any more; nil
local function stopped(push)
  local mark, conversation, ts = withdrawn[push[2]], push[4], push[6]
  if mark then
    local why, upto = match(mark, '^([^|]*)|?(%d*)$')
    if not upto or upto == '' or upto == '0' or ts <= tonumber(upto) + CLOCKS_MS then return why end
  end
  if conversation == 'call' then
    local ended = call('HGET', KEYS[first + push[3]], 'c:' .. push[5])
    return ended and ts <= tonumber(ended) + CLOCKS_MS and 'call_ended' or nil
  end
  local read = call('HMGET', KEYS[first + push[3]], conversation, 'm:' .. conversation .. '\0' .. push[5])
  if read[2] or (read[1] and ts <= tonumber(read[1])) then return 'read_elsewhere' end
end

-- the number of this moment, and the push's count; counted: its count of an earlier try
local function number(push, counted)
  local key, device, step = KEYS[first + push[7]], push[8], push[9]
  local told = call('HMGET', key, device .. ':b', ':b', device .. ':t', ':t', device .. ':n', ':x')
  local count, since = step .. '@' .. (told[3] or told[4] or '0'), tonumber(told[5] or '0')
  if count ~= counted and step > 0 then
    since = call('HINCRBY', key, device .. ':n', step)
    if not told[6] or day - tonumber(told[6]) >= PROLONG_DAYS then
      call('HSET', key, ':x', day)
      call('EXPIRE', key, keep_badge)
    end
  end
  return tonumber(told[1] or told[2] or '0') + since, count
end

local out = {}
for n, one in ipairs(asked) do
  local taken = before[n] and cmsgpack.unpack(before[n]) or {}
  local repeats = before[n] and true or false
  local mine = word == '' or holders[n] == word
  for _, push in ipairs(one[2]) do
    local place = push[1] + 1
    if not mine then
      out[#out + 1] = {2, -1, '', push[10]}
    else
      local earlier = repeats and taken[place]
      local counted, why = earlier and earlier ~= '' and earlier or push[10], earlier and 'uncertain' or ''
      local stop = stopped(push)
      if stop then
        out[#out + 1] = {3, -1, earlier and why or stop, counted}
      else
        local badge = -1
        if push[9] >= 0 then badge, counted = number(push, counted) end
        out[#out + 1] = {0, badge, why, counted}
        taken[place] = counted
      end
    end
  end
  if mine and sends then call('SET', KEYS[1 + n], cmsgpack.pack(taken), 'EX', ARGV[3]) end
end
return cmsgpack.pack(out)
