-- overtake: looks past what nobody has read yet for entries that people wait for, and takes them before their turn.
-- KEYS[1]  a stream of the core
-- KEYS[2]  push:{s0}:takeovers  string: see reclaim.lua
-- ARGV     group, consumer, idle ms after which another reader's entry is anybody's, id to look on from, entries to look at,
--          entries to take, bytes of one entry, bytes kept of a larger one, what is taken, then the classes of messages that can wait
--          what is taken: "0" all but what can wait by its class, and messages to groups; "1" invitations to calls, of the newest entries
--          behind the id; "2" calls, and what says whom they reach (devices, sessions, settings), up to an entry that may hold the latter
--          among messages: such a one keeps its turn, and so does all behind it; "3" as "1", but nothing is taken: their ids alone; "4" as "3",
--          of the oldest entries behind the id
-- returns  {id of the last one looked at, 1: that was the end of the stream, list of {id, fields, size}}; size as in take.lua
-- why      the stream is first in, first out: a call behind 300,000 adverts would come too late
local limit, head, mode = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local newest, asks = mode == '1' or mode == '3', mode == '3' or mode == '4'
local calls = newest or asks

local function before(one, other)
  local ms, seq = string.match(one, '(%d+)-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) < tonumber(other_ms)
  end
  return tonumber(seq) < tonumber(other_seq)
end

local find = string.find
local classes = {}
for i = 10, #ARGV do
  classes[ARGV[i]] = true
end

-- The event's own type, as intake reads it: neither what people write nor an object within the payload makes a call of an event.
-- What is larger than any call, or no JSON, waits for its turn. Past entries that nobody has looked at only an invitation goes: a call's end
-- must not come before it.
local CALL_BYTES_MAX = 65536
local function kind_of(text)
  local read, event = pcall(cjson.decode, text)
  local kind = read and type(event) == 'table' and event.type
  return type(kind) == 'string' and kind or ''
end

local function is_call(text)
  local name = calls and 'call.invited"' or '"call.'
  local pattern = calls and '"type"%s*:%s*"call%.invited"' or '"type"%s*:%s*"call%.'
  -- most texts are left after the first, which is faster
  if not find(text, name, 1, true) or not find(text, pattern) or #text > CALL_BYTES_MAX then return false end
  local kind = kind_of(text)
  return calls and kind == 'call.invited' or not calls and string.sub(kind, 1, 5) == 'call.'
end

local function has_call(text)
  if not find(text, '"call.', 1, true) then return false end
  for line in string.gmatch(text, '[^\n]+') do
    if is_call(line) then return true end
  end
  return false
end

-- what looks like a class or a group by chance only waits for its turn
local function can_wait(fields)
  for i = 1, #fields, 2 do
    local text = fields[i + 1]
    if fields[i] == 'b' then
      return not has_call(text)
    end
    if fields[i] == 'e' and calls then
      return not is_call(text)
    end
    if fields[i] == 'e' then
      local at = find(text, '"class"', 1, true)
      local class = at and string.match(text, '^%s*:%s*"(%l+)"', at + 7)
      if class and classes[class] then
        return true
      end
      at = find(text, '"group"', 1, true)
      return at and find(string.sub(text, math.max(1, at - 32), at), '"type"%s*:%s*"$') ~= nil
        or find(text, '"Group.Callback', 1, true) and find(text, '"CallbackCommand"%s*:%s*"Group%.Callback') ~= nil
    end
  end
  return false
end

-- Devices, sessions and settings of people: an event that a call must not pass unread. The events' own types, as above, but of any size.
local PEOPLE = {
  ['"device.'] = '"type"%s*:%s*"device%.',
  ['"session.'] = '"type"%s*:%s*"session%.',
  ['"settings.'] = '"type"%s*:%s*"settings%.',
}
local function of_people(text)
  for name, pattern in pairs(PEOPLE) do
    if find(text, name, 1, true) and find(text, pattern) then -- what people write of a session is left after the first
      if #text > CALL_BYTES_MAX or string.sub('"' .. kind_of(text), 1, #name) == name then return true end
    end
  end
  return false
end

local function has_people(text)
  for line in string.gmatch(text, '[^\n]+') do
    if of_people(line) then return true end
  end
  return false
end

-- "take", "wait" or "stop". Events of other dialects, and of people among others in one entry, are not told apart here.
local function for_a_call(fields)
  for i = 1, #fields, 2 do
    local name, text = fields[i], fields[i + 1]
    if name == 'd' and text ~= 'native' then return 'stop' end
    if name == 'b' then return has_call(text) and 'take' or has_people(text) and 'stop' or 'wait' end
    if name == 'e' and (is_call(text) or of_people(text)) then return 'take' end
  end
  return 'wait'
end

local function step_of(fields)
  if mode == '2' then return for_a_call(fields) end
  return can_wait(fields) and 'wait' or 'take'
end

local at = ARGV[4]
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local told = {}
  for i = 1, #group, 2 do
    told[group[i]] = group[i + 1]
  end
  if told.name == ARGV[1] and before(at, told['last-delivered-id']) then
    at = told['last-delivered-id']
  end
end
local look, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local raws = newest and redis.call('XREVRANGE', KEYS[1], '+', '(' .. at, 'COUNT', look)
  or redis.call('XRANGE', KEYS[1], '(' .. at, '+', 'COUNT', look)
local found = {}
for i = newest and #raws or 1, newest and 1 or #raws, newest and -1 or 1 do
  local id, fields = raws[i][1], raws[i][2]
  local step = step_of(fields)
  if step == 'stop' then
    return { at, 1, found }
  elseif step == 'take' and asks then
    found[#found + 1] = { id, {}, 0 }
  elseif step == 'take' then
    local taken = #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0
    local mine = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id, 'RETRYCOUNT', 1, 'FORCE', 'JUSTID')
    if mine[1] then
      if taken then
        redis.call('INCR', KEYS[2])
      end
      local cut, _, size = bounded(fields, limit, head)
      found[#found + 1] = { id, cut, size }
    end
  end
  at = id
  if #found >= most then
    return { at, 0, found }
  end
end
return { at, #raws < look and 1 or 0, found }
