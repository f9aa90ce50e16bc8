-- Decide a batch, as the reference does. KEYS[1] holds the mark of the generation, the rest one
-- bucket each. ARGV[1] is the mark that must be there, ARGV[2] the packed batch:
--   checks u4, longest wait i8,
--   per key: t i8, tau i8, version i8, hint i8 (a debt, or -1: absent is full, -2: absent is unknown)
--   per check: limits u2, peek u1, per limit: key u2, shadow u1, cost i8, wait i8
-- Answers "" when the mark is another, else per check u1 (0 refused, 1 passed, 2 unknown) and per
-- limit debt, t, tau, version, i8 each.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return '' end

local floor, min, max = math.floor, math.min, math.max
local pack, unpack_at = struct.pack, struct.unpack
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local packed = ARGV[2]
local checks, max_wait, at = unpack_at('<I4i8', packed)
local keys = #KEYS - 1

local kept = {}
for from = 2, #KEYS, 1000 do
    local some = redis.call('MGET', unpack(KEYS, from, min(from + 999, #KEYS)))
    for i = 1, #some do kept[#kept + 1] = some[i] end
end

local debts, ts, taus, versions, changed, unknown = {}, {}, {}, {}, {}, {}
for k = 1, keys do
    local t, tau, version, hint
    t, tau, version, hint, at = unpack_at('<i8i8i8i8', packed, at)
    local debt = max(hint, 0)
    if kept[k] then
        local tat, old_t, old_tau, old_version = unpack_at('<i8i8i8i8', kept[k])
        debt = min(max(tat - now, 0), old_tau + max_wait)
        if old_version >= version then
            t, tau, version = old_t, old_tau, old_version
        else
            debt = min(floor((debt + old_t - 1) / old_t), floor(tau / t)) * t
        end
    elseif hint == -2 then
        unknown[k] = true
    elseif hint > 0 then
        changed[k] = true
    end
    debts[k], ts[k], taus[k], versions[k] = debt, t, tau, version
end

local answer = {}
for check = 1, checks do
    local limits, peek, taken, order, levels = 0, 0, {}, {}, {}
    local verdict = 1
    limits, peek, at = unpack_at('<I2I1', packed, at)
    for i = 1, limits do
        local k, shadow, cost, wait
        k, shadow, cost, wait, at = unpack_at('<I2I1i8i8', packed, at)
        k = k + 1
        local debt, t, tau = taken[k] or debts[k], ts[k], taus[k]
        levels[i] = pack('<i8i8i8i8', debt, t, tau, versions[k])
        if unknown[k] then
            verdict = 2
        elseif cost <= floor(tau / t) and debt + cost * t <= tau + wait then
            if not taken[k] then order[#order + 1] = k end
            taken[k] = debt + cost * t
        elseif shadow == 0 and verdict == 1 then
            verdict = 0
        end
    end
    if verdict == 1 and peek == 0 then
        for _, k in ipairs(order) do
            debts[k], changed[k] = taken[k], true
        end
    end
    answer[#answer + 1] = string.char(verdict) .. table.concat(levels)
end

for k in pairs(changed) do
    local record = pack('<i8i8i8i8', now + debts[k], ts[k], taus[k], versions[k])
    local lives_ms = floor(debts[k] / 1000) + 300000
    redis.call('SET', KEYS[k + 1], record, 'PX', string.format('%.0f', lives_ms))
end
return table.concat(answer)
