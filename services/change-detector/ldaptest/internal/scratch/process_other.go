//go:build !linux

package scratch

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }

// stopped cannot be seen here; the signal is taken for its effect.
func stopped(int) bool { return true }
