-- times: remembers when messages were stored.
-- KEYS    push:ts:<app>:<message>  string: ts, ms
-- ARGV[1] seconds to remember; then per key its ts
-- returns nothing
-- why     one command for a batch; a SET each was an eighth of intake's time
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1 + i], 'EX', ARGV[1]) end
