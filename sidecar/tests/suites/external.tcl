# What the Redis suite's harness asks of an external server besides what its tests test. Sourced by it
# behind its own `r`.
#
# Settings of encodings that Warp hasn't got are taken as set: the tests then ask the same of the one
# encoding that there is. There are no functions to be flushed.
rename r r_of_redis
proc r {args} {
    set words [lmap word [lrange $args 0 2] {string tolower $word}]
    if {[lrange $words 0 1] eq {function flush}} {
        return OK
    }
    set encodings {^(hash|list|set|zset)-|^proto-max-bulk-len$|^client-query-buffer-limit$}
    if {[lrange $words 0 1] eq {config set} && [regexp $encodings [lindex $words 2]]} {
        return OK
    }
    # Nothing is ever saved.
    if {$words eq {config set save} && [lindex $args 3] eq {}} {
        return OK
    }
    uplevel 1 [list r_of_redis {*}$args]
}
