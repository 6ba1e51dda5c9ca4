//go:build race

package chaos

// Under the race detector less is enough.
const (
	usualEvents = 3_000
	usualFirst  = 1
)
