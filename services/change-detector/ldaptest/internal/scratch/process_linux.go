package scratch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dieWithParent lets the server end with this process, even when that is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// stopped says whether every thread of a process is stopped (proc(5): state T).
func stopped(pid int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(tasks) == 0 {
		return true // it has ended
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(task) //nolint:gosec // of our own child
		if err != nil {
			continue // the thread has ended
		}
		if _, state, ok := strings.Cut(string(stat), ") "); ok && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}
