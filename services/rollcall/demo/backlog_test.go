//go:build kubernetes

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// metricsPath is where Kubernetes asks for metrics that are not its own.
const metricsPath = "/apis/external.metrics.k8s.io/v1beta1"

// startBacklog stands in for Prometheus and its adapter: it tells Kubernetes the
// backlog of the workers, as their pods report it.
func startBacklog(t *testing.T, c *cluster) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(c.Address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(c.metrics(t))
	_ = server.Listener.Close() // in favour of the one that pods and API server reach
	server.Listener = listener
	server.StartTLS()
	t.Cleanup(server.Close)
	port := listener.Addr().String()[strings.LastIndexByte(listener.Addr().String(), ':')+1:]
	c.Apply(t, fmt.Sprintf(metricsService, port, c.Address))
	c.Kubectl(t, "wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=1m")
}

const metricsService = `apiVersion: v1
kind: Service
metadata: {name: backlog, namespace: kube-system}
spec: {ports: [{port: 443, targetPort: %[1]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backlog, namespace: kube-system, labels: {kubernetes.io/service-name: backlog}}
addressType: IPv4
ports: [{port: %[1]s}]
endpoints: [{addresses: [%[2]q]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  service: {name: backlog, namespace: kube-system}
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
`

// metrics answers what the API server passes on.
func (c *cluster) metrics(t *testing.T) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+metricsPath, func(w http.ResponseWriter, _ *http.Request) {
		reply(t, w, map[string]any{
			"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "external.metrics.k8s.io/v1beta1",
			"resources": []map[string]any{{"name": "rollcall_backlog", "namespaced": true, "kind": "ExternalMetricValueList", "verbs": []string{"get"}}},
		})
	})
	mux.HandleFunc("GET "+metricsPath+"/namespaces/rollcall/rollcall_backlog", func(w http.ResponseWriter, r *http.Request) {
		kind, _ := strings.CutPrefix(r.URL.Query().Get("labelSelector"), "rollcall_kind=")
		total, err := c.backlog(r.Context(), kind)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		reply(t, w, map[string]any{
			"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": map[string]any{},
			"items": []map[string]any{{"metricName": "rollcall_backlog", "timestamp": "2026-01-01T00:00:00Z", "value": strconv.Itoa(total)}},
		})
	})
	return mux
}

func reply(t *testing.T, w http.ResponseWriter, body any) {
	t.Helper()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		t.Log(err)
	}
}

var backlogLine = regexp.MustCompile(`(?m)^rollcall_backlog\{[^}]*rollcall_kind="(\w+)"[^}]*\} (\S+)$`)

// backlog is the greatest that a pod of a worker reports: each reads the same number
// from NATS, a moment apart.
func (c *cluster) backlog(ctx context.Context, kind string) (most int, err error) {
	out, err := c.Try(ctx, "", "kubectl", "get", "pods", "--namespace=rollcall", "--selector=app.kubernetes.io/component="+strings.TrimSuffix(kind, "s")+"-sync",
		"--field-selector=status.phase=Running", "--output=jsonpath={.items[*].status.podIP}")
	if err != nil {
		return 0, err
	}
	asked := 0
	for ip := range strings.FieldsSeq(out) {
		text, err := page(ctx, (&url.URL{Scheme: "http", Host: ip + ":9090", Path: "/metrics"}).String())
		if err != nil {
			continue // it has just started or been killed
		}
		for _, line := range backlogLine.FindAllStringSubmatch(text, -1) {
			value, err := strconv.ParseFloat(line[2], 64)
			if err != nil {
				return 0, err
			}
			if line[1] == kind {
				asked++
				most = max(most, int(value))
			}
		}
	}
	if asked == 0 {
		return 0, fmt.Errorf("no pod reports the backlog of %s", kind)
	}
	return most, nil
}

func page(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := (&http.Client{Timeout: requestTimeout}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return string(text), err
}
