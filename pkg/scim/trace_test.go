package scim

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	var traceparent atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		traceparent.Store(r.Header.Get("Traceparent"))
		http.Error(w, "no", http.StatusTeapot)
	}))
	t.Cleanup(server.Close)
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	client, err := New(Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	client.tracer = provider.Tracer("test")
	if _, err := client.Find(context.WithoutCancel(t.Context()), KindUser, "userName", "secret@example.com"); err == nil {
		t.Fatal("no error")
	}
	spans := recorder.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	span := spans[0]
	got := map[string]string{}
	for _, a := range span.Attributes() {
		got[string(a.Key)] = a.Value.String()
		if strings.Contains(a.Value.String(), "secret") {
			t.Errorf("personal data in %v", a)
		}
	}
	for key, want := range map[string]string{
		"http.request.method": "GET", "url.template": "/Users", "server.address": "127.0.0.1",
		"http.response.status_code": "418", "error.type": "418",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	if span.Name() != "GET /Users" || span.SpanKind() != oteltrace.SpanKindClient || got["server.port"] == "" {
		t.Errorf("span %s %v %v", span.Name(), span.SpanKind(), got)
	}
	if parent, _ := traceparent.Load().(string); !strings.Contains(parent, span.SpanContext().SpanID().String()) {
		t.Errorf("traceparent %q does not name the span", parent)
	}
}
