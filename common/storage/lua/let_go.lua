-- let_go: gives claims back, so that another entry may send these pushes; they keep the badge number that was taken.
-- KEYS[1..n]  push:claim:<day>:<4 hex>   hash: push id -> "D" done, "L<entry>|<badge>" leased, "R<badge>" released
-- ARGV        per push: push id, owner ("" = whoever: the caller finished its round), badge (-1: none, ignored with an owner)
-- returns     how many were given back
-- why         a reader that was stopped for a while and goes on must not open again what another has finished meanwhile; an entry that is
--             split or buried takes its leases with it, or the pushes would wait for an owner that is gone
local given = 0
for i = 1, #KEYS do
  local at = (i - 1) * 3
  local id, owner, badge = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local old = redis.call('HGET', KEYS[i], id)
  if owner ~= '' then
    local holder, number = string.match(old or '', '^L([^|]*)|(.*)$')
    if holder == owner then
      redis.call('HSET', KEYS[i], id, 'R' .. number)
      given = given + 1
    end
  elseif old ~= 'D' then
    redis.call('HSET', KEYS[i], id, 'R' .. badge)
    given = given + 1
  end
end
return given
