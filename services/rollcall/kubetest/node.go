//go:build linux

package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const nodeName = "node1"

// newNode makes the directories and finds the programs.
func newNode(tb testing.TB) (*Node, error) {
	tb.Helper()
	programs, err := Script(tb.Context(), "cluster.sh")
	if err != nil {
		return nil, err
	}
	n := &Node{tb: tb, dir: os.Getenv(inside), programs: programs}
	if n.dir == "" {
		n.dir = tb.TempDir()
	}
	for _, name := range []string{"log", "keys", "etcd", "containerd", "kubelet", "home"} {
		if err := os.Mkdir(filepath.Join(n.dir, name), 0o700); err != nil { //nolint:gosec // our own names
			return nil, fmt.Errorf("make a directory: %w", err)
		}
	}
	n.env = append(os.Environ(),
		"KUBECONFIG="+n.key("admin.conf"), "HOME="+filepath.Join(n.dir, "home"), "PATH="+programs+":"+os.Getenv("PATH"))
	return n, nil
}

func (n *Node) key(name string) string { return filepath.Join(n.dir, "keys", name) }

// containerdRoot is where scripts/debian.sh unpacks containerd and what it needs.
func containerdRoot(ctx context.Context) (string, error) {
	return Script(ctx, "debian.sh", "containerd", "containerd", "usr/bin/containerd --version",
		"containerd", "runc", "containernetworking-plugins", "nftables", "iptables", "iproute2")
}

// containerd is a file of what was unpacked with containerd.
func (n *Node) containerd(name string) string {
	return filepath.Join(n.container, name)
}

// up brings everything up, in this order:
//
//  1. the namespaces become a node's
//  2. containerd, with the image that holds pods open
//  3. etcd, and the API server upon it
//  4. controllers and scheduler
//  5. kubelet, kube-proxy and DNS
//  6. the node is ready, and pods may be made
func (n *Node) up(ctx context.Context) error {
	root, err := containerdRoot(ctx)
	if err != nil {
		return err
	}
	n.container, n.Address = root, address.String()
	libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-*")) // the pattern is well formed
	n.env = append(n.env, "LD_LIBRARY_PATH="+strings.Join(libraries, ":"),
		"PATH="+strings.Join([]string{n.programs, filepath.Join(root, "usr/bin"), filepath.Join(root, "usr/sbin"), filepath.Join(root, "bin"), os.Getenv("PATH")}, ":"))
	for _, step := range []func(context.Context) error{n.settle, n.runtime, n.control(address, "6443", "2379", "2380"), n.worker, n.ready} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runtime starts containerd.
func (n *Node) runtime(ctx context.Context) error {
	if err := os.MkdirAll("/etc/cni/net.d", 0o755); err != nil { //nolint:gosec // as on every system
		return fmt.Errorf("make the directory of the pods' network: %w", err)
	}
	if err := write("/etc/cni/net.d", "10-pods.conflist", podNetwork); err != nil {
		return err
	}
	if err := write("/run", "containerd.toml", fmt.Sprintf(containerdConfig, filepath.Join(n.dir, "containerd"), pauseImage, n.containerd("usr/lib/cni"))); err != nil {
		return err
	}
	if err := n.start("containerd", n.containerd("usr/bin/containerd"), "--config", "/run/containerd.toml"); err != nil {
		return err
	}
	if err := n.patiently(ctx, "containerd", func(ctx context.Context) error {
		_, err := n.Try(ctx, "", n.containerd("usr/bin/ctr"), "version")
		return err
	}); err != nil {
		return err
	}
	n.Import(n.tb, Image{ //nolint:contextcheck // it takes the test's
		Name: pauseImage, Files: map[string]string{"/pause": filepath.Join(n.programs, "pause")}, Entrypoint: "/pause"})
	return nil
}

const (
	pauseImage = "localhost/pause:1"

	podNetwork = `{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
	"type": "ptp", "mtu": 1500,
	"ipam": {"type": "host-local", "dataDir": "/run/pods", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}`

	// The OOM score may only be raised here. Containers are kept on disk, because
	// their use of it is measured there.
	containerdConfig = `version = 2
root = %q
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = %q
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = "/etc/cni/net.d"
`
)

// control is the control plane at an address and port, with etcd on ports of loopback.
func (n *Node) control(at net.IP, port, etcd, etcdPeer string) func(context.Context) error {
	return func(ctx context.Context) error {
		n.Address = at.String()
		server := "https://" + net.JoinHostPort(n.Address, port)
		if err := writeKeys(filepath.Join(n.dir, "keys"), server, at); err != nil {
			return err
		}
		store, peer := "http://127.0.0.1:"+etcd, "http://127.0.0.1:"+etcdPeer
		if err := n.start("etcd", "kube", "etcd", "--data-dir="+filepath.Join(n.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls="+store, "--advertise-client-urls="+store,
			"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer); err != nil {
			return err
		}
		if err := n.start("apiserver", "kube", "kube-apiserver", "--etcd-servers="+store,
			"--bind-address="+n.Address, "--advertise-address="+address.String(), "--secure-port="+port,
			"--tls-cert-file="+n.key("api.crt"), "--tls-private-key-file="+n.key("api.key"),
			"--client-ca-file="+n.key("ca.crt"), "--token-auth-file="+n.key("tokens.csv"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file="+n.key("accounts.pub"), "--service-account-signing-key-file="+n.key("accounts.key"),
			"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--kubelet-client-certificate="+n.key("proxy.crt"), "--kubelet-client-key="+n.key("proxy.key"), "--kubelet-preferred-address-types=InternalIP",
			"--requestheader-client-ca-file="+n.key("ca.crt"), "--requestheader-allowed-names=front-proxy",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file="+n.key("proxy.crt"), "--proxy-client-key-file="+n.key("proxy.key"), "--enable-aggregator-routing=true",
		); err != nil {
			return err
		}
		if err := n.patiently(ctx, "the API server", func(ctx context.Context) error {
			_, err := n.Try(ctx, "", "kubectl", "get", "--raw", "/readyz")
			return err
		}); err != nil {
			return err
		}
		// Replicas follow the load within seconds, so that a test can wait for it.
		if err := n.start("controllers", "kube", "kube-controller-manager", "--kubeconfig="+n.key("controller.conf"),
			"--authentication-kubeconfig="+n.key("controller.conf"), "--authorization-kubeconfig="+n.key("controller.conf"),
			"--service-account-private-key-file="+n.key("accounts.key"), "--root-ca-file="+n.key("ca.crt"), "--use-service-account-credentials",
			"--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0",
			"--horizontal-pod-autoscaler-sync-period=2s", "--horizontal-pod-autoscaler-downscale-stabilization=5s"); err != nil {
			return err
		}
		return n.start("scheduler", "kube", "kube-scheduler", "--kubeconfig="+n.key("scheduler.conf"),
			"--authentication-kubeconfig="+n.key("scheduler.conf"), "--authorization-kubeconfig="+n.key("scheduler.conf"),
			"--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0")
	}
}

// worker starts what runs pods and gives services their addresses and names.
func (n *Node) worker(ctx context.Context) error {
	if err := write("/run", "kubelet.yaml", fmt.Sprintf(kubeletConfig, n.key("ca.crt"), n.Address)); err != nil {
		return err
	}
	if err := write("/run", "proxy.yaml", fmt.Sprintf(proxyConfig, n.key("proxy.conf"), nodeName)); err != nil {
		return err
	}
	if err := write("/run", "Corefile", fmt.Sprintf(dnsConfig, n.Address, n.key("dns.conf"))); err != nil {
		return err
	}
	if _, err := n.Try(ctx, "", "kubectl", "create", "clusterrolebinding", "dns", "--clusterrole=cluster-admin", "--user=system:coredns"); err != nil {
		return err
	}
	return errors.Join(
		n.start("kubelet", "kube", "kubelet", "--config=/run/kubelet.yaml", "--kubeconfig="+n.key("kubelet.conf"),
			"--hostname-override="+nodeName, "--node-ip="+n.Address,
			"--root-dir="+filepath.Join(n.dir, "kubelet"), "--cert-dir="+filepath.Join(n.dir, "kubelet", "pki")),
		n.start("proxy", "kube", "kube-proxy", "--config=/run/proxy.yaml"),
		n.start("dns", "dns", "-conf", "/run/Corefile"))
}

const (
	// Control groups are those of the first version on many machines, and there may be
	// nobody who manages them.
	kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %q}}
authorization: {mode: Webhook}
clusterDNS: [%s]
clusterDomain: cluster.local
resolvConf: ""
failSwapOn: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%, nodefs.inodesFree: 1%%}
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
`
	proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %q}
clusterCIDR: 10.244.0.0/24
hostnameOverride: %s
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
	dnsConfig = `.:53 {
	bind %s
	errors
	kubernetes cluster.local in-addr.arpa {
		kubeconfig %s
		ttl 5
	}
}
`
)

// ready waits until pods may be made.
func (n *Node) ready(ctx context.Context) error {
	return n.patiently(ctx, "the node", func(ctx context.Context) error {
		if _, err := n.Try(ctx, "", "kubectl", "get", "serviceaccount", "default"); err != nil {
			return err
		}
		_, err := n.Try(ctx, "", "kubectl", "wait", "--for=condition=Ready", "node", "--all", "--timeout=1s")
		return err
	})
}

// patiently waits until a part of the cluster is there.
func (n *Node) patiently(ctx context.Context, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := n.Await(ctx, holds); err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}

// explain shows the last lines of every log where the test failed.
func (n *Node) explain(tb testing.TB) {
	tb.Helper()
	if !tb.Failed() {
		return
	}
	for _, p := range n.parts {
		tb.Logf("the last lines of %s:\n%s", p.name, tail(p.log))
	}
}
