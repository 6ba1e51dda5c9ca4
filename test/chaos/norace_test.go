//go:build !race

package chaos

const (
	usualEvents = 10_000
	usualFirst  = 3
)
