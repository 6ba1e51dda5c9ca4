package main

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ScaledObject is as much of KEDA's resource as the chart writes, with the names of
// keda.sh/v1alpha1 of KEDA 2.21. Its own package would bring the whole of KEDA along.
type ScaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec ScaledObjectSpec `json:"spec"`
}

// ScaledObjectSpec is what is scaled, and by what.
type ScaledObjectSpec struct {
	ScaleTargetRef  autoscalingv2.CrossVersionObjectReference `json:"scaleTargetRef"`
	PollingInterval *int32                                    `json:"pollingInterval,omitempty"`
	CooldownPeriod  *int32                                    `json:"cooldownPeriod,omitempty"`
	MinReplicaCount *int32                                    `json:"minReplicaCount,omitempty"`
	MaxReplicaCount *int32                                    `json:"maxReplicaCount,omitempty"`
	Advanced        *ScaledObjectAdvanced                     `json:"advanced,omitempty"`
	Fallback        *ScaledObjectFallback                     `json:"fallback,omitempty"`
	Triggers        []ScaledObjectTrigger                     `json:"triggers"`
}

// ScaledObjectAdvanced is about the HorizontalPodAutoscaler that KEDA makes.
type ScaledObjectAdvanced struct {
	HorizontalPodAutoscalerConfig struct {
		Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
	} `json:"horizontalPodAutoscalerConfig"`
}

// ScaledObjectFallback is how many replicas run while the trigger does not answer.
type ScaledObjectFallback struct {
	FailureThreshold int32 `json:"failureThreshold"`
	Replicas         int32 `json:"replicas"`
}

// ScaledObjectTrigger is a measure. All of its values are strings.
type ScaledObjectTrigger struct {
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata"`
}

// DeepCopyObject makes it an object of Kubernetes; nothing here copies one.
func (s *ScaledObject) DeepCopyObject() runtime.Object {
	other := *s
	return &other
}

func addKEDA(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(schema.GroupVersion{Group: "keda.sh", Version: "v1alpha1"}, &ScaledObject{})
	return nil
}
