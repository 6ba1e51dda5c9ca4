//go:build !defect

// Package defect switches a defect that was cured back on, so that the suites which found
// it can show that they still find it. In a normal build nothing of it exists: Back is
// inlined away and nothing looks at the environment. A build with `-tags defect` is for
// tests only. There the environment names the one that is back, ROLLCALL_DEFECT; see
// docs/testing.md for the suite that finds each.
package defect

// Back says whether a defect is back, by one of the names of this package.
func Back(string) bool { return false }
