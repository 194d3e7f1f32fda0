package clienttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// ErrSource is the error of a source of credentials that fails.
var ErrSource = errors.New("the source of credentials failed")

// Keys is a source of temporary credentials that are replaced now and then. The
// server accepts those that it gave last.
type Keys struct {
	lifetime time.Duration

	mu         sync.Mutex
	generation int
	err        error
	asked      int
}

func newKeys(lifetime time.Duration) *Keys {
	return &Keys{lifetime: lifetime, generation: 1}
}

// Retrieve implements aws.CredentialsProvider.
func (k *Keys) Retrieve(context.Context) (aws.Credentials, error) {
	k.mu.Lock()
	k.asked++
	err := k.err
	k.mu.Unlock()
	if err != nil {
		return aws.Credentials{}, err
	}
	creds := k.current()
	creds.CanExpire = true
	creds.Expires = time.Now().Add(k.lifetime)
	return creds, nil
}

// Setenv puts the credentials in the environment.
func (k *Keys) Setenv(t *testing.T) {
	creds := k.current()
	awstest.Set(t, map[string]string{
		"AWS_ACCESS_KEY_ID":     creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": creds.SecretAccessKey,
		"AWS_SESSION_TOKEN":     creds.SessionToken,
	})
}

// Rotate replaces the credentials.
func (k *Keys) Rotate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation++
}

// Fail makes Retrieve fail with err, or succeed if err is nil.
func (k *Keys) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// Asked returns how often Retrieve was called.
func (k *Keys) Asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

// Secret is the server's side of it: a verify.Service's Secret.
func (k *Keys) Secret(accessKeyID, sessionToken string) (string, error) {
	creds := k.current()
	if accessKeyID != creds.AccessKeyID || sessionToken != creds.SessionToken {
		return "", errors.New("these credentials are not, or no longer, valid")
	}
	return creds.SecretAccessKey, nil
}

func (k *Keys) current() aws.Credentials {
	k.mu.Lock()
	defer k.mu.Unlock()
	return aws.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIAKEY%d", k.generation),
		SecretAccessKey: fmt.Sprintf("secret/%d+", k.generation),
		SessionToken:    fmt.Sprintf("session/%d+==", k.generation),
	}
}
