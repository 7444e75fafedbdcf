#Requires -Version 7.0
<#
.SYNOPSIS
Lets mailferry use some mailboxes of Microsoft 365, and no others.

.DESCRIPTION
Written by `mailferry setup`. Run it in Azure Cloud Shell (https://shell.azure.com, PowerShell) as an administrator of
applications and of Exchange. Run it with -WhatIf first: then it changes nothing, and says what it would do. Running it
again does only what is missing. With -Undo it takes everything back.

Its last line is the application (client) id, for `client_id` in mailferry.toml.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    # The mailboxes that mailferry may use.
    [string[]] $Mailbox = @({mailboxes}),
    # The name of the app in Entra ID, and of its scope and role assignment in Exchange.
    [string] $Name = {name},
    # The application (client) id of an app that exists already; without it the app is found by its name, or registered.
    [string] $AppId = {app_id},
    # The app's certificate (base64 of DER). Its private key stays where mailferry runs. Empty if a person signs in.
    [string] $Certificate = {certificate},
    # Apps also read these mailboxes by IMAP.
    [bool] $Reading = {reading},
    # Takes everything back.
    [switch] $Undo
)

$ErrorActionPreference = 'Stop'
$signsInItself = $Certificate -ne ''
$role = 'Application SMTP.SendAsApp'
$assignment = "$Name SMTP.SendAsApp"
$exchangeOnline = '00000002-0000-0ff1-ce00-000000000000'
$graph = '00000003-0000-0000-c000-000000000000'

function Write-Step([string] $Text) { Write-Host "* $Text" }

# Sign in to Azure (Cloud Shell has done that already) and to Exchange Online.
if (-not (Get-AzContext)) { Connect-AzAccount -UseDeviceAuthentication -WhatIf:$false | Out-Null }
if (-not (Get-Module -ListAvailable ExchangeOnlineManagement)) {
    Install-Module ExchangeOnlineManagement -Scope CurrentUser -Force -WhatIf:$false
}
if (-not (Get-ConnectionInformation)) { Connect-ExchangeOnline -Device -ShowBanner:$false }
$tenant = (Get-AzContext).Tenant.Id

$app = if ($AppId) { Get-AzADApplication -ApplicationId $AppId } else {
    Get-AzADApplication -DisplayName $Name | Select-Object -First 1
}

# An app of this name without this certificate belongs to something else, such as mailferry on another machine.
$given = if ($signsInItself) {
    [System.Security.Cryptography.X509Certificates.X509Certificate2]::new([Convert]::FromBase64String($Certificate))
}
$known = if ($app -and $given) {
    Get-AzADAppCredential -ObjectId $app.Id | Where-Object {
        $identifier = $_.CustomKeyIdentifier
        $hex = if ($identifier) { [Convert]::ToHexString($identifier) }
        $text = if ($identifier) { [Convert]::ToBase64String($identifier) }
        $given.Thumbprint -in $hex, $text
    }
}
if ($app -and $given -and -not $known -and -not $AppId) {
    throw "There is an app $Name already, without this certificate. Use another -Name, or name the app with -AppId."
}

if ($Undo) {
    foreach ($address in $Mailbox) {
        if ($PSCmdlet.ShouldProcess($address, 'Use the tenant''s setting of SMTP AUTH again')) {
            Set-CASMailbox -Identity $address -SmtpClientAuthenticationDisabled $null
        }
    }
    if ((Get-ManagementRoleAssignment -Identity $assignment -ErrorAction SilentlyContinue) -and
        $PSCmdlet.ShouldProcess($assignment, 'Remove the role assignment')) {
        Remove-ManagementRoleAssignment -Identity $assignment -Confirm:$false
    }
    if ((Get-ManagementScope -Identity $Name -ErrorAction SilentlyContinue) -and
        $PSCmdlet.ShouldProcess($Name, 'Remove the scope')) {
        Remove-ManagementScope -Identity $Name -Confirm:$false
    }
    if ($app) {
        $principal = Get-AzADServicePrincipal -ApplicationId $app.AppId
        if ($Reading -and $signsInItself -and $principal) {
            foreach ($address in $Mailbox) {
                if ($PSCmdlet.ShouldProcess($address, 'Take the permission to read this mailbox back')) {
                    Remove-MailboxPermission -Identity $address -User $principal.Id -AccessRights FullAccess -Confirm:$false
                }
            }
        }
        if ((Get-ServicePrincipal -Identity $app.AppId -ErrorAction SilentlyContinue) -and
            $PSCmdlet.ShouldProcess($Name, 'Make Exchange forget the app')) {
            Remove-ServicePrincipal -Identity $app.AppId -Confirm:$false
        }
        if (-not $AppId -and $PSCmdlet.ShouldProcess($Name, 'Delete the app')) {
            Remove-AzADApplication -ObjectId $app.Id
        }
    }
    if (-not $WhatIfPreference) { Write-Step 'The steps above are taken back.' }
    return
}

# Entra ID: the app, its certificate, and its enterprise application.
if (-not $app -and $PSCmdlet.ShouldProcess($Name, 'Register the app, for this tenant only')) {
    $app = if ($signsInItself) {
        New-AzADApplication -DisplayName $Name -SignInAudience AzureADMyOrg
    } else {
        New-AzADApplication -DisplayName $Name -SignInAudience AzureADMyOrg -IsFallbackPublicClient `
            -PublicClientRedirectUri 'http://localhost/callback'
    }
    Write-Step "Registered the app $Name."
}
if (-not $app) {
    Write-Step 'There is no app yet, so the steps after its registration cannot be shown.'
    return
}
if ($signsInItself) {
    if (-not $known -and $PSCmdlet.ShouldProcess($Name, "Add the certificate $($given.Thumbprint)")) {
        New-AzADAppCredential -ObjectId $app.Id -CertValue $Certificate `
            -CustomKeyIdentifier ([Convert]::ToBase64String($given.GetCertHash())) -EndDate $given.NotAfter | Out-Null
        Write-Step 'Added the certificate.'
    }
}
$principal = Get-AzADServicePrincipal -ApplicationId $app.AppId
if (-not $principal -and $PSCmdlet.ShouldProcess($Name, 'Create the enterprise application')) {
    $principal = New-AzADServicePrincipal -ApplicationId $app.AppId
    Write-Step 'Created the enterprise application.'
}

# A person who signs in: the permission to send as that person, consented for the tenant.
if (-not $signsInItself) {
    # SMTP.Send and IMAP.AccessAsUser.All, found by their names.
    $wanted = @('SMTP.Send') + @(if ($Reading) { 'IMAP.AccessAsUser.All' })
    $scopes = (Get-AzADServicePrincipal -ApplicationId $graph).Oauth2PermissionScope
    $held = Get-AzADAppPermission -ObjectId $app.Id
    foreach ($value in $wanted) {
        $id = ($scopes | Where-Object Value -eq $value).Id
        if ($held.Id -notcontains $id -and $PSCmdlet.ShouldProcess($Name, "Add the delegated permission $value")) {
            Add-AzADAppPermission -ObjectId $app.Id -ApiId $graph -PermissionId $id -Type Scope
        }
    }
    Write-Step 'An administrator consents for all users here, once:'
    Write-Host "  https://login.microsoftonline.com/$tenant/adminconsent?client_id=$($app.AppId)"
}

# Exchange: the app may send as these mailboxes only (RBAC for Applications).
if ($signsInItself -and $principal) {
    if (-not (Get-ServicePrincipal -Identity $app.AppId -ErrorAction SilentlyContinue) -and
        $PSCmdlet.ShouldProcess($Name, 'Make the app known to Exchange')) {
        # The object id of the enterprise application, not of the app registration.
        New-ServicePrincipal -AppId $app.AppId -ObjectId $principal.Id -DisplayName $Name | Out-Null
        Write-Step 'Made the app known to Exchange.'
    }
    $filter = ($Mailbox | ForEach-Object { "Guid -eq '$((Get-Mailbox -Identity $_).Guid)'" }) -join ' -or '
    if (Get-ManagementScope -Identity $Name -ErrorAction SilentlyContinue) {
        if ($PSCmdlet.ShouldProcess($Name, "Limit the scope to $($Mailbox -join ', ')")) {
            Set-ManagementScope -Identity $Name -RecipientRestrictionFilter $filter
        }
    } elseif ($PSCmdlet.ShouldProcess($Name, "Create a scope with $($Mailbox -join ', ')")) {
        New-ManagementScope -Name $Name -RecipientRestrictionFilter $filter | Out-Null
        Write-Step "Created a scope with $($Mailbox -join ', ')."
    }
    if (-not (Get-ManagementRoleAssignment -Identity $assignment -ErrorAction SilentlyContinue) -and
        $PSCmdlet.ShouldProcess($Name, "Assign the role $role within the scope")) {
        New-ManagementRoleAssignment -Name $assignment -App $app.AppId -Role $role -CustomResourceScope $Name | Out-Null
        Write-Step "Assigned the role $role."
    }
    if ($Reading) {
        $api = Get-AzADServicePrincipal -ApplicationId $exchangeOnline
        $granted = Get-AzADServicePrincipalAppRoleAssignment -ServicePrincipalId $principal.Id
        foreach ($value in 'IMAP.AccessAsApp') {
            $id = ($api.AppRole | Where-Object Value -eq $value).Id
            if ($granted.AppRoleId -notcontains $id -and $PSCmdlet.ShouldProcess($Name, "Grant $value")) {
                New-AzADServicePrincipalAppRoleAssignment -ServicePrincipalId $principal.Id -ResourceId $api.Id -AppRoleId $id | Out-Null
            }
        }
        foreach ($address in $Mailbox) {
            if ($PSCmdlet.ShouldProcess($address, 'Let the app read this mailbox')) {
                Add-MailboxPermission -Identity $address -User $principal.Id -AccessRights FullAccess -AutoMapping $false | Out-Null
            }
        }
    }
}

# SMTP AUTH, on for these mailboxes only. OAuth needs it too.
foreach ($address in $Mailbox) {
    if ((Get-CASMailbox -Identity $address).SmtpClientAuthenticationDisabled -ne $false -and
        $PSCmdlet.ShouldProcess($address, 'Switch on SMTP AUTH')) {
        Set-CASMailbox -Identity $address -SmtpClientAuthenticationDisabled $false
        Write-Step "Switched on SMTP AUTH for $address."
    }
}

if ($signsInItself -and -not $WhatIfPreference) {
    foreach ($address in $Mailbox) {
        Test-ServicePrincipalAuthorization -Identity $app.AppId -Resource $address |
            Format-Table RoleName, GrantedPermissions, AllowedResourceScope, InScope | Out-Host
    }
    Write-Step 'Exchange may take up to two hours to apply this: `mailferry test --wait` waits for it.'
}
Write-Step "Tenant: $tenant"
Write-Step "Application (client) id: $($app.AppId)"
