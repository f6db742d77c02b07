set file [open [lindex $argv 0]]
foreach word [split [read $file] " \n"] { dict incr seen $word }
foreach word [lrange [lsort [dict keys $seen]] 0 9] { puts "$word [dict get $seen $word]" }
puts [catch { error thrown } message]$message
puts [exec echo from a child]
