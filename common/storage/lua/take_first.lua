-- take_first: the badge numbers of entries' first deliveries, all in one step with the note of them (counting.py).
-- KEYS    per entry push:{s0}:taken:<entry>, see take_numbers.lua; then what may stop a push or tell another token, where the caller has not
--         looked; then per push push:badge:{app:user}, see claim.lua; then per lot push:{<lane>}:holders; then per bucket its hashes of
--         counts: of now, one and two periods ago, and the one to be dropped
-- ARGV    1 seconds that what is taken is noted, 2 seconds a badge is kept, 3 seconds a hash of counts is kept, 4 today in days, 5 MessagePack:
--         {how many keys of what may stop, per lot {its sender's word, names of its entries}, per entry the number of its pushes or {their
--         places from 1, places noted without a number}, devices, steps and fields of counts by push, per bucket {1: its end is known,
--         numbers of its pushes}}
-- returns MessagePack: {badges, since when they count: by push, or {} where all count from the beginning}; "" where something has to be looked
--         at, or an entry is another's: then nothing was taken
-- why     a device of which no word is known is counted in a hash of many people's: a round reads and writes each with one command
local call, asked, today = redis.call, cmsgpack.unpack(ARGV[5]), tonumber(ARGV[4])
local said, lots, entries, devices, steps, fields, buckets = unpack(asked)
local PROLONG_DAYS, FEW, PART = 30, 4, 8
local n, stops = #devices, #entries + said
local told_of, holders_at = call('EXISTS', unpack(KEYS, 1, stops + n)), stops + n
if told_of > 0 and call('EXISTS', unpack(KEYS, 1, stops)) > 0 then return '' end
for i, lot in ipairs(lots) do
  for _, holder in ipairs(call('HMGET', KEYS[holders_at + i], unpack(lot[2]))) do
    if holder ~= lot[1] then return '' end
  end
end

local badges, epochs, since, words = {}, {}, {}, false
-- what is known of a push's device; since a word on it the count is with the word
local function told(i)
  local key, device = KEYS[stops + i], devices[i]
  local base, all, from, all_from, prolonged, old =
    unpack(call('HMGET', key, device .. ':b', ':b', device .. ':t', ':t', ':x', device .. ':n'))
  local epoch = from or all_from
  badges[i] = tonumber(base or all or '0')
  if epoch then
    since[i], epochs[i], words = call('HINCRBY', key, device .. ':n', steps[i]), epoch, true
  else -- what earlier releases counted
    badges[i] = badges[i] + tonumber(old or '0')
  end
  if (base or all or epoch or old or prolonged) and (not prolonged or today - tonumber(prolonged) >= PROLONG_DAYS) then
    call('HSET', key, ':x', ARGV[4])
    call('EXPIRE', key, ARGV[2])
  end
end
for start = 1, told_of > 0 and n or 0, PART do
  local last = math.min(start + PART - 1, n)
  if told_of * FEW > n or call('EXISTS', unpack(KEYS, stops + start, stops + last)) > 0 then
    for i = start, last do told(i) end
  end
end

local at, older = holders_at + #lots, nil
-- whether there are hashes of earlier periods: in the first weeks of a fleet there are none
local function has_older()
  if older == nil then
    local before = {}
    for b = 1, #buckets do before[2 * b - 1], before[2 * b] = KEYS[at + 4 * b - 2], KEYS[at + 4 * b - 1] end
    older = call('EXISTS', unpack(before)) > 0
  end
  return older
end
-- the counts of fields, of the newest hash that has them
local function counts_of(first, names)
  local found, left = {}, names
  for key = first, first + 2 do
    if #left == 0 or (key > first and not has_older()) then break end
    local missing = {}
    for j, value in ipairs(call('HMGET', KEYS[key], unpack(left))) do
      if value then found[left[j]] = tonumber(value) else missing[#missing + 1] = left[j] end
    end
    left = missing
  end
  return found
end
for b, bucket in ipairs(buckets) do
  local first, names, asks, n_asks = at + 4 * b - 3, {}, {}, 0
  for _, i in ipairs(bucket[2]) do
    if not since[i] then
      n_asks = n_asks + 1
      asks[n_asks], names[n_asks] = i, fields[i]
    end
  end
  if n_asks > 0 then
    local found, writes = counts_of(first, names), {}
    for j = 1, n_asks do -- of two pushes to one device the second one is written last
      local i, name = asks[j], names[j]
      local count = (found[name] or 0) + steps[i]
      since[i], found[name], writes[2 * j - 1], writes[2 * j] = count, count, name, count
    end
    local new = call('HSET', KEYS[first], unpack(writes)) -- perhaps of a hash that was gone since its end was known
    if (bucket[1] == 0 or new > 0) and call('TTL', KEYS[first]) < 0 then
      call('EXPIRE', KEYS[first], ARGV[3])
      call('UNLINK', KEYS[first + 3]) -- before it ends by itself, which would hold the server up
    end
  end
end

local next_push, plain = 0, {}
for e, entry in ipairs(entries) do
  local places, noted = type(entry) == 'table' and entry[1], {}
  for j = 1, places and #places or entry do
    local i = next_push + j
    local step, epoch = steps[i], epochs[i]
    if not epoch and not plain[step] then plain[step] = step .. '@0' end
    noted[places and places[j] or j] = epoch and step .. '@' .. epoch or plain[step]
    badges[i] = (badges[i] or 0) + since[i]
  end
  next_push = next_push + (places and #places or entry)
  for _, place in ipairs(places and entry[2] or {}) do noted[place] = '' end
  call('SET', KEYS[e], cmsgpack.pack(noted), 'EX', ARGV[1])
end
if words then
  for i = 1, n do epochs[i] = epochs[i] or '0' end
end
return cmsgpack.pack({badges, words and epochs or {}})
