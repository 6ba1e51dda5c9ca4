// Verify reads rendered Kubernetes objects on its standard input and fails on
// what an API server would refuse or silently drop: fields that do not exist,
// values of a wrong type, selectors that miss their pods, mounts without a
// volume. It also holds every pod to the restricted Pod Security Standard.
// With -config it writes the rollcall.yaml of the ConfigMap to a file, for
// `rollcall config validate`.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func main() {
	config := flag.String("config", "", "file that gets the configuration of the ConfigMap")
	flag.Parse()
	if err := run(os.Stdin, *config); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, config string) error {
	objects, err := decode(in)
	if err != nil {
		return err
	}
	var faults []error
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			faults = append(faults, selects(o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template.Labels)...)
			faults = append(faults, pod(o.Name, &o.Spec.Template.Spec, true)...)
		case *appsv1.StatefulSet:
			faults = append(faults, selects(o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template.Labels)...)
			for _, claim := range o.Spec.VolumeClaimTemplates {
				o.Spec.Template.Spec.Volumes = append(o.Spec.Template.Spec.Volumes, corev1.Volume{Name: claim.Name})
			}
			faults = append(faults, pod(o.Name, &o.Spec.Template.Spec, true)...)
		case *batchv1.Job:
			faults = append(faults, pod(o.Name, &o.Spec.Template.Spec, false)...)
		case *corev1.Pod:
			faults = append(faults, pod(o.Name, &o.Spec, false)...)
		case *corev1.ServiceAccount:
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				faults = append(faults, fault(o.Name, "mounts a token that nobody needs"))
			}
		case *corev1.ConfigMap:
			text, is := o.Data["rollcall.yaml"]
			if config == "" || !is {
				continue
			}
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
		}
	}
	return errors.Join(faults...)
}

// decode reads every document, strictly: what is unknown or stands twice is a fault.
func decode(in io.Reader) ([]runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		monitoringv1.AddToScheme, gatewayv1.Install, addKEDA,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register types: %w", err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read documents: %w", err)
		}
		if empty(string(document)) {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode: %w in\n%s", err, document)
		}
		objects = append(objects, object)
	}
}

func empty(document string) bool {
	for line := range strings.Lines(document) {
		if line = strings.TrimSpace(line); line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// selects are the labels of a selector that its own pods do not have.
func selects(name string, selector, labels map[string]string) []error {
	var faults []error
	for key, value := range selector {
		if labels[key] != value {
			faults = append(faults, fault(name, "selects "+key+"="+value+", which its pods do not have"))
		}
	}
	return faults
}

// pod holds a pod to the restricted Pod Security Standard. One that stays needs probes.
func pod(name string, pod *corev1.PodSpec, stays bool) []error {
	var faults []error
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		faults = append(faults, fault(name, "mounts a token that nobody needs"))
	}
	if s := pod.SecurityContext; s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 {
		faults = append(faults, fault(name, "its pods are not restricted: runAsNonRoot, runAsUser, seccompProfile"))
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		if volumes[v.Name] {
			faults = append(faults, fault(name, "has volume "+v.Name+" twice"))
		}
		volumes[v.Name] = true
	}
	for _, c := range pod.Containers {
		faults = append(faults, container(name+"/"+c.Name, &c, volumes)...)
		if stays && (c.LivenessProbe == nil || c.ReadinessProbe == nil || c.StartupProbe == nil) {
			faults = append(faults, fault(name+"/"+c.Name, "lacks a probe"))
		}
	}
	return faults
}

func container(name string, c *corev1.Container, volumes map[string]bool) []error {
	var faults []error
	paths := map[string]bool{}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			faults = append(faults, fault(name, "mounts volume "+m.Name+", which is not there"))
		}
		if paths[m.MountPath] {
			faults = append(faults, fault(name, "mounts two volumes at "+m.MountPath))
		}
		paths[m.MountPath] = true
	}
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" ||
		s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		faults = append(faults, fault(name, "is not restricted: allowPrivilegeEscalation, capabilities, readOnlyRootFilesystem"))
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
		faults = append(faults, fault(name, "lacks requests or a memory limit"))
	}
	return faults
}

func fault(object, problem string) error {
	return fmt.Errorf("%s: %s", object, problem)
}
