-- lane_commit: what became of leased entries: they go, or come back with what is left of them, and all that follows is written with it.
-- KEYS[1] push:{<lane>}:blobs, [2] :leases, [3] :holders, [4] :tries, [5] :load, [6] :queue:<urgency>, see lane_take.lua
-- KEYS[7] push:rate:<lane>, KEYS[8] push:inflight:<lane>, KEYS[9] the ledger's stream, KEYS[10] push:delayed, KEYS[11] push:timer,
--         then the keys of marks, then push:{s0}:taken:<entry>
-- ARGV[1] sender's word, ARGV[2] MessagePack: {entries that end, entries that come back as they are, entries that come back changed as
--         {old, new}, change of the load's bytes, delays of the delayed members in ms, unused tokens as {arrival time of the last, unused,
--         rate} or {}, marks as {kind, key number, …}, how many of the last KEYS are what the entries have taken, those of the entries that come back
--         that are noted, see noted.lua}, ARGV[3] the ledger's record or "", then the batches of the changed entries, then
--         the delayed members (cmsgpack knows no binary strings)
-- returns the entries that are not this sender's: nothing was written then; {} when all is
-- why     a sender that stood still must not write over what another took from it; it frees before it adds, so that a full server, which
--         judges a script by its first write, lets it pass
local word, told = ARGV[1], cmsgpack.unpack(ARGV[2])
local call = redis.call
local ended, back, changed = told[1], told[2], told[3]
local all = {}
for _, id in ipairs(ended) do all[#all + 1] = id end
for _, id in ipairs(back) do all[#all + 1] = id end
for _, one in ipairs(changed) do all[#all + 1] = one[1] end
if #all > 0 then
  local foreign, holders = {}, call('HMGET', KEYS[3], unpack(all))
  for i, id in ipairs(all) do
    if holders[i] ~= word then foreign[#foreign + 1] = id end
  end
  if #foreign > 0 then return foreign end
  call('ZREM', KEYS[2], unpack(all))
  call('HDEL', KEYS[3], unpack(all))
end
if told[8] > 0 then call('DEL', unpack(KEYS, #KEYS - told[8] + 1)) end
local function all_of(command, key, parts) -- Lua hands over some thousand at once
  for i = 1, #parts, 1000 do call(command, key, unpack(parts, i, math.min(i + 999, #parts))) end
end
local gone, queued, blobs, waits = {}, {}, {}, 0
local noted = told[9][1] and {}
for _, id in ipairs(told[9]) do noted[id] = true end
for _, id in ipairs(ended) do gone[#gone + 1] = id end
local function queue(id)
  local order, n = string.match(id, '^[^;]*;%d;(%d+);(%d+);')
  queued[#queued + 1], queued[#queued + 2] = noted and noted[id] and order - NOTED or order, id
  waits = waits + tonumber(n)
end
for _, id in ipairs(back) do queue(id) end
for i, one in ipairs(changed) do
  gone[#gone + 1] = one[1]
  blobs[2 * i - 1], blobs[2 * i] = one[2], ARGV[3 + i]
  queue(one[2])
end
all_of('HDEL', KEYS[1], gone)
all_of('HDEL', KEYS[4], gone)
all_of('HSET', KEYS[1], blobs)
all_of('ZADD', KEYS[6], queued)
if told[4] ~= 0 then call('HINCRBY', KEYS[5], 'b', told[4]) end
if waits > 0 then call('HINCRBY', KEYS[5], 'w', waits) end
if ARGV[3] ~= '' then call('XADD', KEYS[9], '*', 'b', ARGV[3]) end
if #told[5] > 0 then -- due by this server's clock: who puts and who releases are two machines
  local t = call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local before = call('ZRANGE', KEYS[10], 0, 0)[1]
  for i, delay in ipairs(told[5]) do call('ZADD', KEYS[10], now + delay, ARGV[3 + #changed + i]) end
  if call('ZRANGE', KEYS[10], 0, 0)[1] ~= before and call('EXISTS', KEYS[11]) == 0 then -- see delay.lua
    call('LPUSH', KEYS[11], '1')
    call('PEXPIRE', KEYS[11], 2000)
  end
end
local unused = told[6]
if unused[1] then -- given back only while nobody has tokens after ours: else they would be too close to theirs
  local tat = call('HGET', KEYS[7], 't')
  if tat and math.abs(tonumber(tat) - unused[1]) < 2e-6 then
    call('HSET', KEYS[7], 't', string.format('%.6f', unused[1] - unused[2] / unused[3]))
  end
end
call('HDEL', KEYS[8], word)
-- takes "<step>@<epoch>" off the device's badge, while that count still stands; at: of its key, first: of its hashes of counts, see counts.lua
local unspoken, older = nil, {}
local function uncount(at, device, count, first)
  local key, step, epoch = KEYS[at], string.match(count, '^(%d+)@(.*)$')
  if not step or step == '0' then return end
  if unspoken == nil then -- most often there is no word on any of them
    local names = {}
    for _, mark in ipairs(told[7]) do
      if mark[1] == 'uncount' then names[#names + 1] = KEYS[mark[2]] end
      if mark[1] == 'free' then names[#names + 1] = KEYS[mark[2] + 1] end
    end
    unspoken = #names < 4000 and call('EXISTS', unpack(names)) == 0
  end
  local now = unspoken and {} or call('HMGET', key, device .. ':t', ':t', device .. ':n', ':x')
  if epoch == '0' and not (now[1] or now[2]) then
    local hashes = {KEYS[first], KEYS[first + 1], KEYS[first + 2], KEYS[first + 3]}
    if count_less(hashes, field_of(key, device), tonumber(step), older) then return end
  end
  if epoch == (now[1] or now[2] or '0') and tonumber(now[3] or '0') >= tonumber(step) then
    local left = call('HINCRBY', key, device .. ':n', -tonumber(step))
    -- of a person with nothing but this count nothing is left: their next push begins it as the first one did
    if left == 0 and epoch == '0' and now[4] and call('HLEN', key) == 2 then call('DEL', key) end
  end
end
for _, mark in ipairs(told[7]) do
  local kind, key = mark[1], KEYS[mark[2]]
  if kind == 'uncount' then
    uncount(mark[2], mark[3], mark[4], mark[5])
  elseif kind == 'done' then -- whatever becomes of its entry
    -- a field that a lease has made is in a hash that has its time already
    if call('HSET', key, mark[3], 'D') == 1 and call('TTL', key) < 0 then call('EXPIRE', key, mark[4]) end
  elseif kind == 'free' then -- what another entry has leased or ended meanwhile stays so; what nobody can have seen is uncounted
    local holder, count = string.match(call('HGET', key, mark[3]) or '', '^L([^|]*)|(.*)$')
    if holder == mark[4] then
      if not mark[6] then
        uncount(mark[2] + 1, mark[5], count, mark[7])
        count = ''
      end
      call('HSET', key, mark[3], 'R' .. count)
    end
  elseif kind == 'screen' then -- one that waits keeps its place known until its own end: a newer one is remembered as long
    local id, ts, keep = mark[3], mark[4], mark[5]
    local old = call('HMGET', key, 'ts', 'by')
    if ts >= 0 and (not old[1] or tonumber(old[1]) < ts) then call('HSET', key, 'ts', ts) end
    if ts < 0 then call('HSETNX', key, 'ts', '0') end
    if old[2] == id then call('HDEL', key, 'by', 'until') end
    if call('PTTL', key) < keep then call('PEXPIRE', key, keep) end
  elseif kind == 'join' then
    join(key, KEYS[mark[2] + 1], mark[3], mark[4], mark[5], mark[6])
  elseif kind == 'leave' then
    call('ZREM', key, mark[3])
    if call('EXISTS', key) == 0 then call('HDEL', KEYS[mark[2] + 1], 'since', 'patience') end
  elseif kind == 'spoken' then
    local marks = KEYS[mark[2] + 1]
    call('HSET', marks, 'upto', mark[3])
    call('HDEL', marks, 'patience', 'since')
    call('EXPIRE', marks, mark[4])
  end
end
return {}
