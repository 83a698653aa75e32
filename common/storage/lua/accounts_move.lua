-- accounts_move: the next version of the configuration, without a copy of the accounts: everybody reads SQL.
-- KEYS[1] push:config-version      string: the version's number
-- KEYS[2] push:accounts            string: the copy, signed
-- ARGV    epoch milliseconds, digits of a version at most
-- returns the version
-- why     a number that was there before a loss of Redis would pass for what was read then
redis.call('DEL', KEYS[2]) -- nobody reads it, and a removed account's may be in it
local seen = redis.call('GET', KEYS[1]) or '0'
local known = string.find(seen, '^%d+$') and #seen <= tonumber(ARGV[2]) and tonumber(seen) or 0
local version = string.format('%.0f', math.max(known + 1, tonumber(ARGV[1])))
redis.call('SET', KEYS[1], version)
return version
