-- rate_back: the end of a round whose lane's queue is in another shard: its tokens that were not needed, and its place among those in flight.
-- KEYS[1] push:rate:<lane>, KEYS[2] push:inflight:<lane>, see rate_lease.lua
-- ARGV    1 sender's word, then nothing, or 2 time of the last token, 3 how many were not needed, 4 rate per s
-- why     as in lane_commit.lua: given back only while nobody has tokens after ours
redis.call('HDEL', KEYS[2], ARGV[1])
if not ARGV[2] then return end
local tat = redis.call('HGET', KEYS[1], 't')
if tat and math.abs(tonumber(tat) - tonumber(ARGV[2])) < 2e-6 then
  redis.call('HSET', KEYS[1], 't', string.format('%.6f', tonumber(ARGV[2]) - tonumber(ARGV[3]) / tonumber(ARGV[4])))
end
