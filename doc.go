// Package bedrocktoken creates short-term Amazon Bedrock API keys from AWS
// credentials. Such a key is a bearer token, called a token here, for clients that can
// send an Authorization header but cannot sign.
//
// [Provider.Transport] sends one with each request of an [http.Client], for as long
// as the program runs. [Provider.Token] returns one for other clients.
// [ProvideToken] is for programs that end before their token does.
//
// # Tokens
//
// A token is a presigned request for bedrock:CallWithBearerToken. Signing is local:
// only retrieving credentials uses the network. A token is valid in one region, for
// at most 12 hours, and no longer than the credentials that signed it, often an hour.
// It cannot be renewed or individually revoked.
//
// It carries the permissions of the identity that signed it. That needs
// bedrock:CallWithBearerToken (bedrock-mantle:CallWithBearerToken for bedrock-mantle)
// besides the actions it calls: see AWS on [API keys] and [permissions].
//
// AWS's SDKs sign requests and need no token. Agents, AgentCore, Data Automation and
// InvokeModelWithBidirectionalStream accept none.
//
// # Region and credentials
//
// The region is that of [WithRegion] or else the first of AWS_REGION,
// AWS_DEFAULT_REGION and the profile's region. The credentials are those of
// [WithCredentialsProvider] or else the first that the SDK's default chain finds:
//
//  1. The environment, unless [WithProfile] is given: AWS_ACCESS_KEY_ID and
//     AWS_SECRET_ACCESS_KEY (until AWS_CREDENTIAL_EXPIRATION, if set), or web identity.
//  2. The profile: keys, a role (for an hour, or its duration_seconds), IAM Identity
//     Center, aws login, or a credential_process.
//  3. The role of the container, then that of the EC2 instance.
//
// NewProvider fixes the region and the profile. All else, such as replaced keys, is
// read again for each retrieval. Requests for credentials time out after 10 seconds
// and are retried. AWS_BEARER_TOKEN_BEDROCK is not read.
//
// # Renewal
//
// What a call gets depends on the held credentials, those retrieved last:
//
//	bridged (see Trouble)     it is served at once
//	more than a minute left   it is served at once
//	in their last minute      it waits for the retrieval under way, to a second after the
//	                          start of that or for half of the time to the call's
//	                          deadline, and is served if they are still good
//	expired, or none          it waits for the retrieval under way; if that fails it gets
//	                          the error, as do others until the next one is due
//
// A retrieval that is due starts, in the background, with the first call, 401 or 403.
// The next is due when the held credentials expire, or sooner:
//
//	it brought credentials               at their advisory window, after 10 seconds or more
//	it failed, and calls are served      after 10 seconds, then 20, up to 5 minutes
//	it failed, with nothing to serve     after 1 to 5 seconds, at random
//
// The advisory window depends on what the credentials have left when they come:
//
//	up to 20 minutes        the last half of it, but 1 to 5 minutes
//	less than 90 minutes    the last 15 minutes
//	more                    the last hour
//
// Those without an expiry are retrieved again after 5 minutes, unless a
// StaticCredentialsProvider or a credential_process gave them.
//
// One retrieval runs at a time. After a minute it is given up. Nothing runs in
// between: a Provider needs no closing. AWS has specified such rules for its SDKs
// ([Java], [Rust], [Python]); in November 2026 no released SDK had them on by
// default.
//
// # Trouble
//
// A retrieval fails by an outage, and its error is an [ErrOutage], if the source does
// not answer, breaks off, answers with status 429, 5xx or a code that asks to try
// again, or can be bridged and gives expired credentials. After any other failure a
// person may have to act.
//
// From an outage until the next retrieval ends, the held credentials are bridged:
// they are served even if they have expired, and Bedrock decides. AWS calls this
// static stability. A token says that it expires two minutes after that retrieval is
// due, if not later. If none has begun by then, calls wait as in the last minute.
//
// A retrieval also fails if other keys expire sooner than the held ones, or are those
// of the machine (EC2 or the container) and the held ones are not: without its files
// the SDK falls back to the machine, as does a restart.
//
// If Bedrock answers 401 or 403 through [Provider.Transport], a retrieval is due, a
// minute after the last at the earliest. Others may then expire sooner.
//
// What holds for credentials, by their Source:
//
//	                                 can be    retrieved after
//	                                 bridged   401 and 403
//	EC2, container, role, web
//	identity, IAM Identity Center,
//	aws login                        yes       yes
//	keys in environment or files     no        yes
//	credential_process, your own     no        no
//
// aws login and an [aws.CredentialsCache] (even after a 403) give others only when
// they expire. Calls wait then.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
// [Java]: https://github.com/aws/aws-sdk-java-v2/pull/7263
// [Rust]: https://github.com/smithy-lang/smithy-rs/pull/4781
// [Python]: https://github.com/boto/botocore/pull/3773
package bedrocktoken
