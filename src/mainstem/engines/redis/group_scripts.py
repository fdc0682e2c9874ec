"""
What the server does in one step about a group as a whole: making it, counting what it missed, moving it, sweeping.

Only Lua. Queues and keyed streams share these where they can. KEYS[1] is the log, KEYS[2] what the group keeps beside
it; ARGV[1] the group. Numbers that Lua would write as 1e+15 go through ``text``.
"""

from __future__ import annotations

from mainstem.engines.redis.scripts import lua

_IDS = """
local function text(number) return string.format('%.0f', number) end
local function less(a, b)
  local am, as = string.match(a, '^(%d+)%-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)%-(%d+)$')
  if am ~= bm then return tonumber(am) < tonumber(bm) end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end
local function before(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  if tonumber(seq) > 0 then return ms .. '-' .. text(tonumber(seq) - 1) end
  return tonumber(ms) > 0 and text(tonumber(ms) - 1) .. '-18446744073709551615' or '0-0'
end
local function map(flat)
  local about = {}
  for i = 1, #flat, 2 do about[flat[i]] = flat[i + 1] end
  return about
end
-- How many events were added up to this id, where the server's own counters tell; nil between two that are kept.
local function ordinal(about, id)
  local added, length = about['entries-added'], about['length']
  if not less(id, about['last-generated-id']) then return added end
  if length == 0 then return added end
  if less(id, about['first-entry'][1]) then return added - length end
  return nil
end
"""

CREATE = lua(
    _IDS,
    """
-- ARGV[2]: 'beginning' or 'end', for a group that left no checkpoint. Returns where it starts, '' if it was there.
local mark = redis.call('HGET', KEYS[2], 'checkpoint')
local id = mark or (ARGV[2] == 'end' and '$' or '0-0')
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], id, 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then return '' end
  return made
end
local about = map(redis.call('XINFO', 'STREAM', KEYS[1]))
if id == '$' then id = about['last-generated-id'] end
local read = ordinal(about, id)
if read then redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], id, 'ENTRIESREAD', text(read)) end
if ARGV[2] == 'end' and not mark then redis.call('HSET', KEYS[2], 'checkpoint', id) end
return id
""",
)

ACCOUNT = lua(
    _IDS,
    """
-- Counts what was trimmed before the group read it, and corrects the server's counter by it. ARGV[2] = 1: also keeps
-- a checkpoint, KEYS[3] is what was restored. Returns missing, pending, 1 if there is nothing new, restored, seeks.
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
if stream.err then return redis.error_reply('NOGROUP the stream is gone') end
local about, group = map(stream), nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if flat[2] == ARGV[1] then group = map(flat) end
end
if not group then return redis.error_reply('NOGROUP the group is gone') end
local last, read = group['last-delivered-id'], group['entries-read']
local current, missing = ordinal(about, last), 0
if current and (not read or read < current) then
  missing = read and current - read or 0
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', text(current))
  if missing > 0 then redis.pcall('HINCRBY', KEYS[2], 'lost', text(missing)) end
end
local idle = less(last, about['last-generated-id']) and 0 or 1
if ARGV[2] ~= '1' then return {missing, group['pending'], idle} end
local mark = last
if group['pending'] > 0 then mark = before(redis.call('XPENDING', KEYS[1], ARGV[1])[2]) end
local kept = redis.call('HMGET', KEYS[2], 'checkpoint', 'seeks')
if kept[1] ~= mark then redis.pcall('HSET', KEYS[2], 'checkpoint', mark) end
return {missing, group['pending'], idle, redis.call('XLEN', KEYS[3]), tonumber(kept[2] or '0')}
""",
)

SEEK_QUEUE = lua(
    _IDS,
    """
-- ARGV[2]: the id to stand at; ARGV[3]: its ordinal where the caller counted it, else ''. Makes the group if need be.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
local read = ordinal(map(redis.call('XINFO', 'STREAM', KEYS[1])), ARGV[2]) or tonumber(ARGV[3])
if read then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2], 'ENTRIESREAD', text(read))
else
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('HSET', KEYS[2], 'checkpoint', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'seeks', 1)
return 1
""",
)

FORGET = lua("""
-- Takes up to 1000 entries from ARGV[2] to ARGV[3] off the group's pending list; returns where it stopped, '' at the
-- end.
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[3], 1000)
for _, entry in ipairs(found) do redis.call('XACK', KEYS[1], ARGV[1], entry[1]) end
return #found == 1000 and found[#found][1] or ''
""")

SEEK_KEYED = lua(
    _IDS,
    """
-- As SEEK_QUEUE; whoever owns the partition is fenced, and reads on from here once it has acquired it again.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
local about = map(redis.call('XINFO', 'STREAM', KEYS[1]))
local read = ordinal(about, ARGV[2]) or tonumber(ARGV[3]) or about['entries-added'] - about['length']
local token = tonumber(redis.call('HGET', KEYS[2], 'token') or '0')
redis.call('HSET', KEYS[2], 'cursor', ARGV[2], 'read', text(read), 'done', '', 'owner', '', 'until', '0',
  'token', text(token + 1), 'crashes', '0')
redis.call('HDEL', KEYS[2], 'try')
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2], 'ENTRIESREAD', text(read))
return 1
""",
)

SWEEP = lua(
    _IDS,
    """
-- KEYS[2]: the sweeper's turn, taken for ARGV[1] ms; ARGV[2]: 'MINID' and ARGV[3] the oldest id to keep, or 'READ':
-- what every group has settled goes. Returns how many went.
if not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return 0 end
if ARGV[2] == 'MINID' then return redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[3]) end
local keep = nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = map(flat)
  local mark = group['last-delivered-id']
  if group['pending'] > 0 then mark = before(redis.call('XPENDING', KEYS[1], group['name'])[2]) end
  if not keep or less(mark, keep) then keep = mark end
end
if not keep then return 0 end
local ms, seq = string.match(keep, '^(%d+)%-(%d+)$')
local up = seq == '18446744073709551615'
local oldest = up and text(tonumber(ms) + 1) .. '-0' or ms .. '-' .. text(tonumber(seq) + 1)
return redis.call('XTRIM', KEYS[1], 'MINID', oldest)
""",
)

APPEND = lua("""
-- ARGV[1]: most events the log may hold; then, per record, the number of its arguments and these. Returns an id for
-- each, '' from the first one on that would not fit.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local at, result = 2, {}
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local id = ''
  if room > 0 then id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, at + count)) end
  room = room - 1
  result[#result + 1] = id
  at = at + count + 1
end
return result
""")

RESTORE = lua("""
-- KEYS: dead letters, restored; ARGV[1]: the group; ARGV[2..]: ids. Returns how many moved.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0-0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
local moved = 0
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
    redis.call('XDEL', KEYS[1], ARGV[i])
    moved = moved + 1
  end
end
return moved
""")
