-- silence: which of these silent pushes may go? One per device and gap.
-- KEYS    push:silent:{app:user}:<device>  string: id of the push that took the gap, until it is over
-- ARGV[1] the gap, ms; then per key the push id
-- returns per key 1: may go (also again: it is the one that took the gap), 0: another went too short a time ago
-- why     two replicas that asked first and wrote then would both send
--         a server without free memory refuses to remember: one silent push too many is thrown away unseen, a round that fails is not
local out = {}
for i = 1, #KEYS do
  local id = ARGV[1 + i]
  local took = redis.pcall('SET', KEYS[i], id, 'NX', 'PX', ARGV[1])
  local holder = redis.call('GET', KEYS[i])
  if holder == id or (not holder and took and took.err) then
    out[i] = 1
  else
    out[i] = 0
  end
end
return out
