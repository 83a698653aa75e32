-- accounts_keep: keeps the copy of the accounts and sets the configuration's version, unless that has moved meanwhile.
-- KEYS[1] push:config-version      string: the version's number
-- KEYS[2] push:accounts            string: the copy, signed
-- ARGV    the version before the accounts were read, the version of this copy, the copy
-- returns 1 when it is kept
-- why     what was read before somebody's change must not pass for what is true after it
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end
if ARGV[1] ~= ARGV[2] then redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('SET', KEYS[2], ARGV[3])
return 1
