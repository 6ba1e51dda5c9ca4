//go:build linux

package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const goarch = runtime.GOARCH

// inside tells the test program that it is in namespaces of its own; it is the
// directory for everything that is written, which lasts longer than they do.
const inside = "ROLLCALL_KUBETEST_INSIDE"

// Run brings a Kubernetes up, gives it to the test, and leaves nothing behind: the
// test program starts itself again as the first process of new namespaces, and with
// it everything in them ends. The last lines of each part's log are in the test's
// output where it fails.
func Run(t *testing.T, test func(*testing.T, *Node)) {
	t.Helper()
	isReal := os.Getenv(inside) != ""
	if !isReal {
		missing := again(t)
		if missing == nil {
			return
		}
		t.Logf("NO CONTAINERS: %v. Kubernetes only pretends to run pods; what needs them is left out", missing)
	}
	n, err := newNode(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	t.Cleanup(func() { n.explain(t) })
	up := n.pretend
	if isReal {
		up = n.up
	}
	if err := up(t.Context()); err != nil {
		t.Fatalf("bring Kubernetes up: %v", err)
	}
	test(t, n)
}

var errNotRoot = errors.New("only root can make namespaces and containers")

// again runs this test once more in namespaces of its own, and passes on what it
// says and how it ends. What Kubernetes changes outside of them is put back. An error
// says why that cannot be.
func again(t *testing.T) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	if _, err := containerdRoot(t.Context()); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok { // this one must have time to clean up
		args = append(args, "-test.timeout="+max(time.Second, time.Until(deadline)-10*time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), self, args...) //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS, // Go keeps the mounts in it private
		Pdeathsig:    syscall.SIGKILL,
	}
	before := sysctls(t)
	runtime.LockOSThread() // or it would die with the thread that started it
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	err = cmd.Wait()
	for name, value := range before {
		if err := os.WriteFile(name, []byte(value), 0o600); err != nil {
			t.Errorf("put %s back: %v", name, err)
		}
	}
	removeCgroups(t)
	if err != nil {
		t.Fatalf("in namespaces of its own: %v", err)
	}
	return nil
}

// sysctls are the settings of the whole machine that a kubelet changes.
func sysctls(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, name := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"} {
		file := filepath.Join("/proc/sys", name)
		value, err := os.ReadFile(file) //nolint:gosec // a name from the list above
		if err != nil {
			t.Fatal(err)
		}
		values[file] = string(value)
	}
	return values
}

// removeCgroups removes the control groups of pods that have ended; they are empty.
func removeCgroups(t *testing.T) {
	t.Helper()
	var found []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // what cannot be read is not ours
		}
		if strings.Contains(path, "/kubepods") || strings.Contains(path, "/k8s.io") {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Errorf("look for control groups: %v", err)
	}
	for _, group := range slices.Backward(found) { // those inside first
		if err := os.Remove(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("remove a control group: %v", err)
		}
	}
}

// address is the node's. Nothing outside of the namespaces has or sees it.
var address = net.IPv4(172, 31, 250, 1) //nolint:gochecknoglobals // a constant

// settle makes the namespaces a node's: mounts that containers may share, files of
// its own where Kubernetes writes, and an interface with the node's address that
// leads nowhere.
func (n *Node) settle(ctx context.Context) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/etc/cni", "/var/lib/cni", "/var/log/pods", "/var/log/containers"} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as on every system
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4g"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
		if err := syscall.Mount("", dir, "", syscall.MS_SHARED, ""); err != nil {
			return fmt.Errorf("share %s: %w", dir, err)
		}
	}
	for name, text := range map[string]string{
		"resolv.conf": "nameserver " + n.Address + "\nsearch svc.cluster.local cluster.local\noptions ndots:5\n",
		"hosts":       "127.0.0.1 localhost\n" + n.Address + " " + nodeName + "\n",
	} {
		if err := write("/run", name, text); err != nil {
			return err
		}
		if err := os.Chmod("/run/"+name, 0o644); err != nil { //nolint:gosec // everybody reads them
			return err
		}
		if err := syscall.Mount("/run/"+name, "/etc/"+name, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /etc/%s: %w", name, err)
		}
	}
	ip := n.containerd("bin/ip")
	for _, args := range []string{
		"link set lo up",
		"link add node0 type veth peer name node0p",
		"link set node0p up",
		"address add " + n.Address + "/24 dev node0",
		"link set node0 up",
		"route add default dev node0",
	} {
		if _, err := n.Try(ctx, "", ip, strings.Fields(args)...); err != nil {
			return err
		}
	}
	for name, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/route_localnet": "1"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o600); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
