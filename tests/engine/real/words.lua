local seen, count = {}, 0
for word in io.open(arg[1]):read('a'):gmatch('%w+') do seen[word] = (seen[word] or 0) + 1 end
local names = {}
for word in pairs(seen) do names[#names + 1] = word end
table.sort(names)
for i = 1, 10 do print(names[i], seen[names[i]]) end
print(pcall(error, 'thrown', 0))
local steps = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end)
print(steps(), steps(), steps())
