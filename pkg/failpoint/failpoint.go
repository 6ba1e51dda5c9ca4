//go:build !failpoint

// Package failpoint lets a test kill a process at an exact step. The wrappers
// through which every durable step goes (pkg/bus and pkg/scim) call Hit before and
// after it. In a normal build the functions of this package are empty: they are
// inlined away and nothing looks at the environment.
//
// A build with `-tags failpoint` is for tests only. There Hit counts, and obeys the
// environment:
//
//	ROLLCALL_FAILPOINT        the point at which the process kills itself (SIGKILL),
//	                          as the log names it: `before publish outcomes.users.wiki #3`
//	ROLLCALL_FAILPOINT_LOG    a file to which each point is appended, one a line
//	ROLLCALL_FAILPOINT_SCALE  the factor of Scale: 0.1
//
// What somebody else has to wait for after a crash is long in production: the claim
// of a link and the ack wait 30 s, the leases of the detector and of the look ahead
// 10 s, the time-out of a call 15 s. These durations, and no others, go through Scale,
// so that a test can shrink them alike and their order stays.
package failpoint

import "time"

// Hit marks a moment, before or after, of a step on a subject or a route.
func Hit(string, string, string) {}

// Scale is d.
func Scale(d time.Duration) time.Duration { return d }
