-- Offer jobs to those who wait for them; nobody waiting, nothing is left behind.
-- KEYS: waiting, list. ARGV: how long the list may be, how long it lives (ms), ids.
if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
local ids = {unpack(ARGV, 3)}
local pushed = redis.pcall('RPUSH', KEYS[2], unpack(ids))
if type(pushed) == 'table' then -- something else lies there
    redis.call('DEL', KEYS[2])
    redis.call('RPUSH', KEYS[2], unpack(ids))
end
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return #ids
