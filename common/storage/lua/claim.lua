-- claim: leases on push ids for one batch, so that a repeated fan-out sends nothing twice; takes the badge number with it.
-- KEYS[1] push:claim:   prefix + <day>:<4 hex>  hash: push id -> "D" done, "L<entry>|<count>" leased by an entry, "R<count>" released; count:
--                       "<step>@<epoch>" what it added to the device's badge, and since when that is counted; "" nothing
-- KEYS[2] push:badge:   prefix + {app:user}     hash: <device>:b base, <device>:n pushes since, <device>:t when that count began; the device ""
--                       has the words on those without
-- KEYS[3] push:gone:    prefix + <app>:<conversation>\0<message> string: "<why>|<ts>" why nothing of this message may be sent any more
--                       ("recalled"; "call_ended": no invitation up to ts)
-- KEYS[4] push:read:    prefix + {app:user}     hash: <conversation> -> read up to this ts, ms; m:<conversation>\0<message>; c:<call> -> ts of the answer;
--                       d:<device> -> since when its token is this person's no more, ms (of versions before 0.4; now: common/storage/bindings.py)
-- KEYS[5] push:{s0}:counts: prefix + <period>:<bucket> hashes of counts, see counts.lua
-- ARGV[1] seconds a claim is kept, ARGV[2] seconds a badge is kept, ARGV[3] MessagePack: a list of {push id, day, app, message, user,
--         device, conversation ("" = can't be read), ts, entry, increment (-1: badge not touched), when the device registered, bucket of the person's counts}, ARGV[4] the period
-- returns MessagePack: per push {state, badge, why}: 0 ours, 1 done already, 2 leased by another entry, 3 gone (why: the decision);
--         badge -1: none; with 0, why "uncertain": this very entry had leased it before, so its first reader may have sent it and died
-- why     an entry that is delivered again may take its own lease (its reader is dead), a twin in another entry may not;
--         a push stands once in the count however often it is tried, and shows the number of this moment; packed, as keys and answers by the thousand cost
--         the server and us more than the work itself
local keep, keep_badge = tonumber(ARGV[1]), tonumber(ARGV[2])
local asks = cmsgpack.unpack(ARGV[3])
local call, out = redis.call, {}
call('DEL', KEYS[1]) -- a delete first: a server without free memory refuses a script that begins by adding
local marks = {}
for i, ask in ipairs(asks) do marks[i] = KEYS[3] .. ask[3] .. ':' .. ask[7] .. '\0' .. ask[4] end
local withdrawn = call('MGET', unpack(marks))


-- why nothing of this message may go, or nil
local function gone_by(i, ask)
  if not withdrawn[i] then return nil end
  local why, ts = string.match(withdrawn[i], '^([^|]*)|?(%d*)$')
  if ts and ts ~= '' and ts ~= '0' and ask[8] > tonumber(ts) then return nil end
  return why
end

-- why this person need not, or this device must not, see it any more, or nil
local function read_by(ask)
  local read = call('HMGET', KEYS[4] .. '{' .. ask[3] .. ':' .. ask[5] .. '}', ask[7], 'm:' .. ask[7] .. '\0' .. ask[4], 'c:' .. ask[4], 'd:' .. ask[6])
  if read[4] and ask[11] <= tonumber(read[4]) then return 'no_device' end
  if ask[7] == '' then return nil end
  if read[3] and ask[8] <= tonumber(read[3]) then return 'call_ended' end
  if read[2] or (read[1] and ask[8] <= tonumber(read[1])) then return 'read_elsewhere' end
end

-- the number of this moment, and the push's count; counted: its count of an earlier try
local function next_badge(ask, counted)
  local key, device = KEYS[2] .. '{' .. ask[3] .. ':' .. ask[5] .. '}', ask[6]
  local told = call('HMGET', key, device .. ':b', ':b', device .. ':t', ':t', device .. ':n')
  local count = ask[10] .. '@' .. (told[3] or told[4] or '0')
  local since, epoch = tonumber(told[5] or '0'), told[3] or told[4]
  local hashes, field = {}, ask[3] .. ':' .. ask[5] .. '\0' .. device
  for ago = 0, 3 do hashes[ago + 1] = KEYS[5] .. (ARGV[4] - ago) .. ':' .. ask[12] end
  if not epoch then since = since + count_of(hashes, field) end
  if string.match(counted, '^%d+$') then -- of releases before 0.2: the number itself, which is counted
    count = counted
  elseif count ~= counted then
    since = since + ask[10]
    if epoch then
      call('HINCRBY', key, device .. ':n', ask[10])
    elseif ask[10] > 0 then
      count_is(hashes, field, since - tonumber(told[5] or '0'))
    end
    -- renewed now and then only: it is told to the log file and the replicas each time
    local ttl = call('TTL', key)
    if ttl ~= -2 and ttl < keep_badge / 2 then call('EXPIRE', key, keep_badge) end
  end
  return tonumber(told[1] or told[2] or '0') + since, count
end

for i, ask in ipairs(asks) do
  local id, entry = ask[1], ask[9]
  local key = KEYS[1] .. ask[2] .. ':' .. string.sub(id, 1, 4)
  local old = call('HGET', key, id)
  local state, badge, why = 0, -1, ''
  if old == 'D' then
    state = 1
  else
    local gone = gone_by(i, ask) or read_by(ask)
    local kind, count = old and string.sub(old, 1, 1), ''
    if kind == 'L' then
      local owner, counted = string.match(old, '^L([^|]*)|(.*)$')
      if owner ~= entry then state = 2 end
      count = counted
    elseif kind == 'R' then
      count = string.sub(old, 2)
    end
    -- leased by this very entry before: its first reader died, perhaps after it had sent
    if state == 0 and kind == 'L' then why = 'uncertain' end
    if state == 0 and gone then
      state, why = 3, why ~= '' and why or gone
    elseif state == 0 then
      if ask[10] >= 0 then badge, count = next_badge(ask, count) end
      call('HSET', key, id, 'L' .. entry .. '|' .. count)
      if call('TTL', key) < keep / 2 then call('EXPIRE', key, keep) end
    end
  end
  out[i] = {state, badge, why}
end
return cmsgpack.pack(out)
