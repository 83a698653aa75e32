-- unlease: gives a role's lease back, if it is still the giver's.
-- KEYS[1] push:{s0}:lease:<role>
-- ARGV    the giver's word
-- returns 1 when it was the giver's
-- why     between a look and a delete in two calls the lease may have become somebody else's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
