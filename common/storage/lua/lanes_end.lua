-- lanes_end: leased entries of some lanes that have been sent whole at their first try: all of them go, with one record of them all.
-- KEYS[1] the ledger's stream
-- KEYS    then six per lane: push:{<lane>}:blobs, :leases, :holders, :load, see lane_take.lua, push:rate:<lane>, push:inflight:<lane>
-- KEYS    then push:{s0}:taken:<entry>
-- ARGV    1 the record or "", 2 how many of the last KEYS are what the entries have taken, 3 MessagePack, per lane: sender's word, its entries, change of
--         the load's bytes, unused tokens as lane_commit.lua has them
-- returns the entries that are not these senders': nothing was written then; {} when all is
-- why     as lane_commit.lua, which has more to do; the record is one for all lanes, and a call costs more than what it does for one of them
local call, lanes, taken = redis.call, cmsgpack.unpack(ARGV[3]), tonumber(ARGV[2])
local foreign = {}
for i, one in ipairs(lanes) do
  for j, holder in ipairs(call('HMGET', KEYS[6 * i - 2], unpack(one[2]))) do
    if holder ~= one[1] then foreign[#foreign + 1] = one[2][j] end
  end
end
if #foreign > 0 then return foreign end
local words = {} -- by the key of what is in flight, which a lane's parts in several shards share
for i, one in ipairs(lanes) do
  local at, word, ids, unused = 6 * i - 5, one[1], one[2], one[4]
  call('ZREM', KEYS[at + 2], unpack(ids))
  call('HDEL', KEYS[at + 3], unpack(ids))
  call('HDEL', KEYS[at + 1], unpack(ids))
  if one[3] ~= 0 then call('HINCRBY', KEYS[at + 4], 'b', one[3]) end
  if unused[1] then -- given back only while nobody has tokens after ours: else they would be too close to theirs
    local tat = call('HGET', KEYS[at + 5], 't')
    if tat and math.abs(tonumber(tat) - unused[1]) < 2e-6 then
      call('HSET', KEYS[at + 5], 't', string.format('%.6f', unused[1] - unused[2] / unused[3]))
    end
  end
  local flight = KEYS[at + 6]
  words[flight] = words[flight] or {}
  words[flight][#words[flight] + 1] = word
end
for flight, own in pairs(words) do call('HDEL', flight, unpack(own)) end
for i = #KEYS - taken + 1, #KEYS, 1000 do call('DEL', unpack(KEYS, i, math.min(i + 999, #KEYS))) end
if ARGV[1] ~= '' then call('XADD', KEYS[1], '*', 'b', ARGV[1]) end
return {}
