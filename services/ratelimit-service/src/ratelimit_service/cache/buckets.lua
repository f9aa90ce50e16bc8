-- Decide a batch, as the reference does. KEYS[1] holds the mark of the generation, the rest one
-- bucket or quota each. ARGV[1] is the mark that must be there, ARGV[2] the packed batch:
--   checks u4, longest wait i8,
--   per key: t i8, tau i8, version i8, hint i8 (a debt, or -1: absent is full, -2: absent is unknown)
--     for a quota t is 0, tau the limit, a hint of 0 that it follows; and then
--     number, start, length i8, sliding u1, hint of number, used, before i8
--   per check: limits u2, peek u1,
--     per limit: key u2, flags u1 (shadow, and twice the op), cost i8, wait i8
-- Answers "" when the mark is another, else per check u1 (0 refused, 1 passed, 2 unknown) and per
-- limit debt, t, tau, version, i8 each; for a quota number, before, weight, left as well.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return '' end

local floor, min, max = math.floor, math.min, math.max
local char, pack, unpack_at = string.char, struct.pack, struct.unpack
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
local quotas = {}

-- A record one window ahead stays in force: this clock lags behind the one that opened it.
local function quota(k, n, version, hint)
    local number, start, length, sliding, found, used, before
    number, start, length, sliding, found, used, before, at = unpack_at('<i8i8i8I1i8i8i8', packed, at)
    local found_n, found_version = n, version
    if kept[k] then
        found, used, before, found_n, found_version = unpack_at('<i8i8i8i8i8', kept[k])
    elseif hint ~= 0 then
        found, unknown[k] = nil, hint == -2 or nil
    else
        changed[k] = true
    end
    if found and found_version >= version then n, version = found_n, found_version end
    local shift = floor((now - start) / length)
    local ends = start + (shift + 1) * length
    number = number + shift
    if found == number + 1 then number, ends = number + 1, ends + length end
    if found == number - 1 then
        used, before = 0, used
    elseif found ~= number then
        used, before = 0, 0
    end
    local weight = 0
    if sliding == 1 then
        local millionth = length / 1000000
        local share = min(floor((ends - now + millionth - 1) / millionth), 1000000)
        weight = floor((before * share + 999999) / 1000000)
    end
    quotas[k] = {number = number, before = before, weight = weight, ends = ends, length = length}
    return used + weight, 1, n, version
end

for k = 1, keys do
    local t, tau, version, hint
    t, tau, version, hint, at = unpack_at('<i8i8i8i8', packed, at)
    local debt = max(hint, 0)
    if t == 0 then
        debt, t, tau, version = quota(k, tau, version, hint)
    elseif kept[k] then
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

-- The debt after a limit that gives (1), raises (2), penalizes (3) or resets (4).
local function moved(op, debt, t, tau, cost, wait, spent, is_wiped)
    if op == 4 then return 0 end
    if op == 1 then
        if spent then
            return max(debt - (wait == spent.number and cost or 0), is_wiped and 0 or spent.weight)
        end
        return max(debt - min(min(cost, floor(wait / t) + 1) * t, wait), 0)
    end
    if op == 2 then
        return max(debt, min(min(cost, floor(tau / t)) * t + wait, tau + max_wait))
    end
    local ceiling = tau + wait
    return max(debt, min(debt + min(cost, floor(ceiling / t) + 1) * t, ceiling))
end

local has_quotas = next(quotas) ~= nil
local answer, said = {}, 0
for check = 1, checks do
    local limits, peek, taken, order, wiped = 0, 0, {}, {}, nil
    said = said + 1
    local place = said
    local verdict = 1
    limits, peek, at = unpack_at('<I2I1', packed, at)
    for i = 1, limits do
        local k, flags, cost, wait
        k, flags, cost, wait, at = unpack_at('<I2I1i8i8', packed, at)
        k = k + 1
        local debt, t, tau = taken[k] or debts[k], ts[k], taus[k]
        local spent = has_quotas and quotas[k]
        said = said + 1
        if spent then
            local is_wiped = wiped and wiped[k]
            answer[said] = pack('<i8i8i8i8i8i8i8i8', debt, t, tau, versions[k], spent.number,
                is_wiped and 0 or spent.before, is_wiped and 0 or spent.weight, spent.ends - now)
        else
            answer[said] = pack('<i8i8i8i8', debt, t, tau, versions[k])
        end
        if unknown[k] then
            verdict = 2
        elseif flags > 1 then
            if not taken[k] then order[#order + 1] = k end
            local op = floor(flags / 2)
            taken[k] = moved(op, debt, t, tau, cost, wait, spent, wiped and wiped[k])
            if op == 4 then
                wiped = wiped or {}
                wiped[k] = true
            end
        elseif cost <= floor(tau / t) and debt + cost * t <= tau + wait then
            if not taken[k] then order[#order + 1] = k end
            taken[k] = debt + cost * t
        elseif flags == 0 and verdict == 1 then
            verdict = 0
        end
    end
    if verdict == 1 and peek == 0 then
        for _, k in ipairs(order) do
            debts[k], changed[k] = taken[k], true
            if wiped and wiped[k] and quotas[k] then
                quotas[k].before, quotas[k].weight = 0, 0
            end
        end
    end
    answer[place] = char(verdict)
end

for k in pairs(changed) do
    local spent, record, lives = quotas[k], nil, debts[k]
    if spent then
        local used = debts[k] - spent.weight
        record = pack('<i8i8i8i8i8', spent.number, used, spent.before, taus[k], versions[k])
        lives = spent.ends - now + 2 * spent.length
    else
        record = pack('<i8i8i8i8', now + debts[k], ts[k], taus[k], versions[k])
    end
    local lives_ms = floor(lives / 1000) + 300000
    redis.call('SET', KEYS[k + 1], record, 'PX', string.format('%.0f', lives_ms))
end
return table.concat(answer)
