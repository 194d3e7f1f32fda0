// Package bedrocktoken creates short-term Amazon Bedrock API keys from AWS
// credentials. Such a key is a bearer token, for clients that can only send an
// Authorization header. This documentation calls it a token.
//
// [Provider.Transport] sends a token with each request of an [http.Client], for as
// long as the program runs. [Provider.Token] returns one for other clients.
// [ProvideToken] is for programs that end before their token does.
//
// # Tokens
//
// A token is a presigned request for bedrock:CallWithBearerToken. It is signed
// locally: only retrieving credentials uses the network. It is valid in one
// region, for at most 12 hours, and no longer than the credentials that signed it,
// which often last an hour. It cannot be renewed or individually revoked.
//
// A token carries the permissions of the identity that signed it. That identity
// needs bedrock:CallWithBearerToken, or bedrock-mantle:CallWithBearerToken for the
// bedrock-mantle endpoint, in addition to the actions it calls. See AWS's
// documentation of [API keys] and their [permissions].
//
// The AWS SDK's own clients sign their requests and need no token. Agents for
// Amazon Bedrock, Data Automation and InvokeModelWithBidirectionalStream do not
// accept tokens.
//
// # Region and credentials
//
// The region of the tokens is that of [WithRegion] or else the first of
// AWS_REGION, AWS_DEFAULT_REGION and the profile's region.
//
// The credentials are those of [WithCredentialsProvider] or else the first that the
// SDK's default chain finds:
//
//  1. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, unless [WithProfile] is given.
//     AWS_CREDENTIAL_EXPIRATION, if set, is their expiry.
//  2. Web identity in the environment, as on EKS, unless WithProfile is given.
//  3. The profile: keys, a role, IAM Identity Center, aws login, or a
//     credential_process.
//  4. The role of the container, then that of the EC2 instance.
//
// NewProvider fixes the region and the profile. The first retrieval uses the
// configuration that NewProvider loaded. Each later one reloads it, so that keys
// replaced in the shared files are picked up. HTTP requests for credentials time
// out after 10 seconds and are retried.
//
// # Renewal
//
// A Provider caches credentials and renews them in the background, as AWS's SDKs
// do:
//
//	retrieved         advisory window         last minute            expired
//	    |  calls are        |  calls are served,    |  calls wait up to    |  calls wait until a
//	    |  served at once   |  and the first one    |  a second for a      |  retrieval ends or their
//	    |                   |  starts a renewal     |  renewal that began  |  context is done
//
// The advisory window is the last 5 minutes of credentials that live for up to 20
// minutes (at most half of their life), the last 15 minutes of those that live for
// less than 90, and the last hour of others. Those of aws login cannot be renewed
// before they expire, because the SDK keeps them until their last second.
//
// When something goes wrong:
//
//   - A renewal fails, or hangs and is abandoned after a minute: callers are served
//     until the held credentials expire. The function of [WithRenewalErrorHandler] is
//     told. The Provider tries again after a quarter of the time that the trouble has
//     lasted: after 10 seconds at first, and after 5 minutes at most.
//   - The held credentials expire in an outage of their source, which does not
//     answer, or answers with status 429 or 5xx or with expired credentials: callers
//     are still served, and Bedrock decides whether it accepts the token (static
//     stability). This holds for roles of EC2 instances and containers, assumed
//     roles, web identity, IAM Identity Center and aws login. Its reported
//     expiry is shortly after the next attempt.
//   - The held credentials expire otherwise: calls return [ErrCredentials] until the
//     source has recovered. Each call tries again. After a retrieval that hung, calls
//     fail at once for 10 seconds.
//   - A renewal brings credentials that expire sooner: they are not used, unless
//     Bedrock refused the held ones.
//
// Credentials without an expiry are retrieved again every 5 minutes, except those
// of a StaticCredentialsProvider or a credential_process, which may prompt.
//
// A caller whose context is done returns at once, and the others get their token.
// One retrieval runs at a time, unless a source hangs and ignores its context.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
package bedrocktoken
