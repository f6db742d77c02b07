seen = Hash.new(0)
File.read(ARGV[0]).scan(/\w+/) { |word| seen[word] += 1 }
seen.sort_by { |word, count| [-count, word] }.first(10).each { |pair| puts pair.join(' ') }
puts [1, 2, 3, 4].map { |n| Thread.new { (1..n * 1000).sum } }.map(&:value).inspect
begin
  raise 'thrown'
rescue => error
  puts error.message
end
puts Fiber.new { Fiber.yield 7 }.resume
GC.start
