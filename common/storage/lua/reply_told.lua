-- reply_told: nobody waits for these replies any more.
-- KEYS[1] push:replies-due   zset: waiter -> when its reply is due, ms
-- ARGV    the waiters
-- returns nothing
-- why     a script, as delay.lua is, which may have added them in the same MULTI: the scripts of a commit keep their order, and come last
redis.call('ZREM', KEYS[1], unpack(ARGV))
