//go:build linux

package kubetest

import (
	"context"
	"net"
	"path/filepath"
	"strings"
)

// pretend brings the lighter tier up: the control plane on loopback, and a node whose
// pods are ready without running. Nobody needs to be root for it.
func (n *Node) pretend(ctx context.Context) error {
	n.Pretended = true
	var ports [3]string
	for i := range ports {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		ports[i] = port
	}
	if err := n.control(net.IPv4(127, 0, 0, 1), ports[0], ports[1], ports[2])(ctx); err != nil {
		return err
	}
	if err := n.start("kwok", "kwok", "--kubeconfig="+n.key("kwok.conf"), "--manage-all-nodes=true", "--config="+filepath.Join(n.programs, "stages.yaml")); err != nil {
		return err
	}
	if _, err := n.Try(ctx, pretendedNode, "kubectl", "apply", "-f", "-"); err != nil {
		return err
	}
	return n.ready(ctx)
}

const pretendedNode = `apiVersion: v1
kind: Node
metadata:
  name: ` + nodeName + `
  labels: {kubernetes.io/hostname: ` + nodeName + `}
  annotations: {kwok.x-k8s.io/node: fake}
status:
  allocatable: {cpu: "8", memory: 16Gi, pods: "110"}
  capacity: {cpu: "8", memory: 16Gi, pods: "110"}
`

// freePort is a port of loopback that nobody listens on.
func freePort(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()[strings.LastIndex(listener.Addr().String(), ":")+1:], nil
}
