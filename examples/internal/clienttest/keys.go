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

// Keys is a source of temporary credentials that are replaced now and then. The
// server accepts those that it gave last.
type Keys struct {
	lifetime time.Duration
	err      error // of Retrieve

	mu         sync.Mutex
	generation int
}

// Retrieve implements aws.CredentialsProvider.
func (k *Keys) Retrieve(context.Context) (aws.Credentials, error) {
	creds := k.current()
	creds.CanExpire = true
	creds.Expires = time.Now().Add(k.lifetime)
	return creds, k.err
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
