-- lane_note: entries that wait behind a stopped lane are noted as held by it, and their pushes join the groups of their conversations.
-- KEYS[1] push:{<lane>}:queue:<urgency>, [2] :load, see lane_take.lua, then two keys per group, see join.lua
-- ARGV[1] seconds to keep a group, [2] urgency number, [3] why the lane is stopped, [4] MessagePack: {{entry, {number of the group's first
--         key, push id, ts of its event, when it was received, ms, and so on for each of its pushes that join}}, …}
-- returns how many entries were noted
-- why     an entry that a sender took meanwhile is left alone: its push may end without leaving a group, as it is not known to be in one
local queue, load, keep, noted = KEYS[1], KEYS[2], tonumber(ARGV[1]), 0
local upto = tonumber(redis.call('HGET', load, 'n' .. ARGV[2]) or '0')
for _, one in ipairs(cmsgpack.unpack(ARGV[4])) do
  local id, joins = one[1], one[2]
  local score = redis.call('ZSCORE', queue, id)
  if score and tonumber(score) >= 0 then
    local order = tonumber(string.match(id, '^[^;]*;%d;(%d+);'))
    redis.call('ZADD', queue, order - NOTED, id)
    for i = 1, #joins, 4 do join(KEYS[joins[i]], KEYS[joins[i] + 1], joins[i + 1], joins[i + 2], joins[i + 3], keep) end
    upto, noted = math.max(upto, order), noted + 1
  end
end
if noted > 0 then redis.call('HSET', load, 'n' .. ARGV[2], string.format('%d', upto), 'why' .. ARGV[2], ARGV[3]) end
return noted
